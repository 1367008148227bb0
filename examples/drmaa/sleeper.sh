#!/bin/sh
# Two arguments: what to say first, and who says goodbye. SLEEP: how long in between (default: 0.3 seconds).
echo "Hello world, the answer is $1"
sleep "${SLEEP:-0.3}"
echo "$2 Bye world!"
