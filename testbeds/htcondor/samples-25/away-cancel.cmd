condor_rm -name nosuch 1.0
