oarstat -f -j 12
