#!/bin/bash
# Words after the common ones: PROCESS_COUNT EXECUTABLE ARGUMENTS...

source "$(dirname "$0")/launcher_lib.sh"

_PSI_J_PROCESS_COUNT="$1"
shift

pre_launch

# Open MPI refuses more processes than it sees slots, unless told; from version 5 on by another option. The output of all
# ranks goes straight to the job's files, which are complete when mpirun has ended.
_PSI_J_MPI_OPTIONS=()
_PSI_J_MPI_VERSION="$(mpirun --version 2>/dev/null </dev/null | head -n 1 || true)"
case "$_PSI_J_MPI_VERSION" in
    *"(Open MPI) "[1-4].* | *"(OpenRTE) "[1-4].*) _PSI_J_MPI_OPTIONS=(--oversubscribe) ;;
    *"(Open MPI)"*) _PSI_J_MPI_OPTIONS=(--map-by :OVERSUBSCRIBE) ;;
esac
log "mpirun: $_PSI_J_MPI_VERSION"

_psi_j_run mpirun "${_PSI_J_MPI_OPTIONS[@]}" -n "$_PSI_J_PROCESS_COUNT" "$@"
post_launch

exit "$_PSI_J_FAILED_EC"
