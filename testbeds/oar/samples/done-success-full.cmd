oarstat -f -j 1
