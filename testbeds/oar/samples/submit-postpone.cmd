oarsub -n postpone -l /resource_id=1,walltime=0:3:0 -t postpone=2030-01-01 00:00:00 sleep 1
