condor_rm 492.0 999999.0 496.4 -constraint 'ProcId =?= undefined && ((ClusterId == 496 && TotalSubmitProcs == 5 && JobMaterializeNextProcId >= 4))'
