oarstat -s -j 6
