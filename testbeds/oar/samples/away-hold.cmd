oarhold 21
