oarsub -n after -l /resource_id=1,walltime=0:3:0 -a 10 sleep 1
