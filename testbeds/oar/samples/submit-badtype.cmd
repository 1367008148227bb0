oarsub -t nosuch true
