oardel -s CONT 10
