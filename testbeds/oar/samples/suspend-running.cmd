oarhold -r 10
