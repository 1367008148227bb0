condor_history -json -attributes ClusterId,JobyardToken -constraint 'JobyardToken == "0000000000000000000000000000000d" || JobyardToken == "0000000000000000000000000000000e"'
