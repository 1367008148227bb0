oarsub -n away -l /resource_id=1,walltime=0:3:0 sleep 1
