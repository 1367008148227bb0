"""The lookalikes' programs. They are copied into each cell and run there; standard library only, nothing of jobyard's but the
stand-in's machine, which is copied with them."""
