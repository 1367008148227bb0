oarsub -n core -l /resource_id=1,walltime=0:3:0 ulimit -c unlimited; kill -SEGV $$
