oarstat -f -J -j 13
