#!/bin/bash
# Words after the common ones: EXECUTABLE ARGUMENTS...

source "$(dirname "$0")/launcher_lib.sh"

pre_launch
_psi_j_run "$@"
post_launch

exit "$_PSI_J_FAILED_EC"
