oardel 11
