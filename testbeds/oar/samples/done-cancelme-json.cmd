oarstat -f -J -j 11
