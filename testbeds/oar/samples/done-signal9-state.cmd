oarstat -s -j 3
