oarsub -n best -t besteffort -t idempotent -p yard = 8 -l /resource_id=1,walltime=0:5:0 sleep 200
