oarstat -f -j 3
