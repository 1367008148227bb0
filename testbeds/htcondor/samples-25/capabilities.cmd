condor_submit -capabilities
