oarhold 6
