condor_release 1.0
