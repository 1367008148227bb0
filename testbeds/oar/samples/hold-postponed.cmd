oarhold 16
