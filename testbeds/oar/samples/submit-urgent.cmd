oarsub -n urgent -p yard = 8 -l /resource_id=1,walltime=0:1:0 sleep 5
