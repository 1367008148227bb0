oarstat -f -J --sql launching_directory LIKE '%/0123456789abcdef0123456789abcdef'
