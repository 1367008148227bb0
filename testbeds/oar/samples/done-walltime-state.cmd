oarstat -s -j 5
