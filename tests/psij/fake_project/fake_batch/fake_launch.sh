#!/bin/bash
# As launcher scripts have always been written: unquoted in places, and with the library's variables.

source $(dirname "$0")/launcher_lib.sh

pre_launch

log "Args: $@"
COUNT="$1"
EXTRA="$2"
shift 2
for INDEX in $(seq 1 1 $COUNT); do
    log "Process: $INDEX"
    PIDS="$PIDS $(bash "$(dirname "$0")/helper.sh" "$EXTRA" >>$_PSI_J_STDOUT; _PSI_J_PROCESS_INDEX_=$INDEX "$@" 1>>$_PSI_J_STDOUT 2>>$_PSI_J_STDERR <$_PSI_J_STDIN; echo $?)"
done
for EC in $PIDS; do
    if [ "$EC" != "0" ]; then
        _PSI_J_FAILED_EC=$EC
    fi
done
log "All completed"

post_launch

exit $_PSI_J_FAILED_EC
