oarsub -l /resource_id=1 true
