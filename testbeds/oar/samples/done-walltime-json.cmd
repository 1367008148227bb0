oarstat -f -J -j 5
