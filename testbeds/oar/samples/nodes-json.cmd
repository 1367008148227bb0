oarnodes -J --sql resource_id IN (SELECT MIN(resource_id) FROM resources)
