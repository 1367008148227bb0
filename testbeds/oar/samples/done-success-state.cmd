oarstat -s -j 1
