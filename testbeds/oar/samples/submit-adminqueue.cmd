oarsub -q admin true
