oarstat -s -j 11
