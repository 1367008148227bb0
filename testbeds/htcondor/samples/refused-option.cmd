condor_submit -terse -nosuchoption
