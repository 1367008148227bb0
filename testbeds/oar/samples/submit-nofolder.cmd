oarsub -n nofolder -l /resource_id=1,walltime=0:3:0 -d /tmp/oar-samples.aGBMCS/work/nowhere sleep 1
