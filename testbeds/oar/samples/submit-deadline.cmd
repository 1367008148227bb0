oarsub -n deadline -l /resource_id=1,walltime=0:3:0 -t deadline=2020-01-01 00:00:00 sleep 1
