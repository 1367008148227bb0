condor_hold -constraint 'JobStatus == 1 && ((ClusterId == 494 && (ProcId == 0)))'
