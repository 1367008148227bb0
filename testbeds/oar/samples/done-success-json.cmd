oarstat -f -J -j 1
