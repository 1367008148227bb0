#!/bin/bash
# Words after the common ones: PROCESS_COUNT EXECUTABLE ARGUMENTS...
# One resource set for each process.

source "$(dirname "$0")/launcher_lib.sh"

_PSI_J_PROCESS_COUNT="$1"
shift

pre_launch
_psi_j_run jsrun -n "$_PSI_J_PROCESS_COUNT" -a 1 "$@"
post_launch

exit "$_PSI_J_FAILED_EC"
