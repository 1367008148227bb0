oarstat -f -j 7
