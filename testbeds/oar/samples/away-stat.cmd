oarstat -J -j 21
