#!/bin/bash
# Words after the common ones: PROCESS_COUNT EXECUTABLE ARGUMENTS...

source "$(dirname "$0")/launcher_lib.sh"

_PSI_J_PROCESS_COUNT="$1"
export _PSI_J_PROCESS_COUNT
shift

pre_launch

# All processes append to the same files, which are emptied once.
: >"$_PSI_J_STDOUT"
: >"$_PSI_J_STDERR"
_PSI_J_PIDS=()
for ((_PSI_J_I = 1; _PSI_J_I <= _PSI_J_PROCESS_COUNT; _PSI_J_I++)); do
    _PSI_J_PROCESS_INDEX_=$_PSI_J_I "$@" <"$_PSI_J_STDIN" >>"$_PSI_J_STDOUT" 2>>"$_PSI_J_STDERR" 3>&- &
    _PSI_J_PIDS+=("$!")
done

for _PSI_J_PID in "${_PSI_J_PIDS[@]}"; do
    set +e
    wait "$_PSI_J_PID"
    _PSI_J_EC=$?
    set -e
    if [ "$_PSI_J_EC" != 0 ]; then
        log "Pid $_PSI_J_PID failed with $_PSI_J_EC"
        [ "$_PSI_J_FAILED_EC" != 0 ] || _PSI_J_FAILED_EC=$_PSI_J_EC
    fi
done
log "All completed"

post_launch

exit "$_PSI_J_FAILED_EC"
