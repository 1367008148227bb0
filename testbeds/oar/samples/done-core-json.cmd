oarstat -f -J -j 4
