condor_submit -terse -name nosuch
