oarstat --array 7 -J
