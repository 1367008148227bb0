#!/bin/sh
# Two arguments: what to say first, and who says goodbye. SLEEP: how long in between (default: 1 second).
echo "Hello world, the answer is $1"
sleep "${SLEEP:-1}"
echo "$2 Bye world!"
