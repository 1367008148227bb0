oarstat -f -J -j 14
