condor_vacate_job -constraint 'JobStatus != 1 && JobyardOnce =!= true && ((ClusterId == 7 && (ProcId == 0)) || (ClusterId == 10 && (ProcId == 0)) || (ClusterId == 12 && (ProcId == 0)))'
