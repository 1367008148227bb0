oarstat -f -j 10
