oarstat -f -j 2
