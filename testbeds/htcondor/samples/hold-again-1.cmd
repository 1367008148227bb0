condor_q -json -attributes ClusterId,ProcId,JobStatus,NumShadowStarts,JobyardOnce -allusers -constraint '(ClusterId == 9 && (ProcId == 0))'
