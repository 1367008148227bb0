oarstat -s -J -j 10
