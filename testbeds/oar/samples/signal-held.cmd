oardel -s CONT 6
