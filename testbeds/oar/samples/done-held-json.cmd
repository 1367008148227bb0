oarstat -f -J -j 6
