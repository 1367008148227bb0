oarstat -f -J --sql job_id = 999999
