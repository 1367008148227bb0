oarstat -f -j 6
