oardel 1
