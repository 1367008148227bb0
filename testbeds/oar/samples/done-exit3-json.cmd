oarstat -f -J -j 2
