oarstat -j 10
