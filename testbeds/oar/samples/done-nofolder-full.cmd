oarstat -f -j 14
