condor_submit -terse -append 'request_cpus = many and more'
