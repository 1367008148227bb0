oarstat -f -j 11
