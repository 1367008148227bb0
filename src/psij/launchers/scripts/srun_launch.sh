#!/bin/bash
# Words after the common ones: PROCESS_COUNT EXECUTABLE ARGUMENTS...
# The allocation says how many processes there are, and where.

source "$(dirname "$0")/launcher_lib.sh"

shift

pre_launch
_psi_j_run srun "$@"
post_launch

exit "$_PSI_J_FAILED_EC"
