oarstat -s -j 7
