oarsub -p nosuch = 1 true
