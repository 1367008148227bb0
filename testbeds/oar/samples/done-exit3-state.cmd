oarstat -s -j 2
