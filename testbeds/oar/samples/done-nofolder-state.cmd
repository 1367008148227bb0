oarstat -s -j 14
