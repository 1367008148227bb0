oarstat -f -j 13
