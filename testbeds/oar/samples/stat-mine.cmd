oarstat -f -J -u
