oarstat -f -j 5
