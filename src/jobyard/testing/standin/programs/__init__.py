"""The stand-in's programs. They are copied into each cell and run there; standard library only, nothing of jobyard."""
