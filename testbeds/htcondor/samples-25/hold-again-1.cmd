condor_q -json -attributes ClusterId,ProcId,JobStatus,NumShadowStarts,JobyardOnce -allusers -constraint '(ClusterId == 494 && (ProcId == 0))'
