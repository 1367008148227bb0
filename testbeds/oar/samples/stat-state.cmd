oarstat -s -j 10
