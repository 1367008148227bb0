oarhold 10
