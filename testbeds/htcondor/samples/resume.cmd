condor_continue 10.2 10.0
