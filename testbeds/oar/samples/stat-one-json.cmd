oarstat -f -J -j 10
