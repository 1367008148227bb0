oarstat -f -J -j 3
