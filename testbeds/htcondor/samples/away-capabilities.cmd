condor_submit -name nosuch -capabilities
