oarstat -s -j 10 -j 6 -j 999999
