oarsub -n folder -l /resource_id=1,walltime=0:3:0 -d /tmp/oar-samples.aGBMCS/work/0123456789abcdef0123456789abcdef sleep 1
