oarstat -s -j 13
