oarstat -s -j 4
