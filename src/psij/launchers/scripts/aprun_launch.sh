#!/bin/bash
# Words after the common ones: PROCESS_COUNT EXECUTABLE ARGUMENTS...

source "$(dirname "$0")/launcher_lib.sh"

_PSI_J_PROCESS_COUNT="$1"
shift

pre_launch
_psi_j_run aprun -n "$_PSI_J_PROCESS_COUNT" "$@"
post_launch

exit "$_PSI_J_FAILED_EC"
