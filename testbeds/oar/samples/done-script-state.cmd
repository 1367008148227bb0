oarstat -s -j 12
