oarstat -f -J -j 12
