condor_rm 7.0 999999.0 11.4 -constraint 'ProcId =?= undefined && ((ClusterId == 11 && TotalSubmitProcs == 5 && JobMaterializeNextProcId >= 4))'
