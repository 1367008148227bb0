condor_hold -constraint 'JobStatus == 1 && ((ClusterId == 9 && (ProcId == 0)))'
