oarstat -f -J --sql array_id = 18
