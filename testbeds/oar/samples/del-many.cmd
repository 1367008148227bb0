oardel 10 15
