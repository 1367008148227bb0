oarstat -f -j 4
