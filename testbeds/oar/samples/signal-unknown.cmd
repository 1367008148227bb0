oardel -s CONT 999999
