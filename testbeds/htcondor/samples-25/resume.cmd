condor_continue 495.2 495.0
