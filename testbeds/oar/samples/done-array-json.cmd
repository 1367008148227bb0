oarstat -f -J -j 7
