oarstat -f -J --sql nosuch = 1
