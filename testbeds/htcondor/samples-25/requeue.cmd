condor_vacate_job -constraint 'JobStatus != 1 && JobyardOnce =!= true && ((ClusterId == 492 && (ProcId == 0)) || (ClusterId == 495 && (ProcId == 0)) || (ClusterId == 497 && (ProcId == 0)))'
