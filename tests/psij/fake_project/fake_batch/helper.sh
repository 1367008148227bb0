echo "helped: $1"
