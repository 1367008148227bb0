oardel 21
