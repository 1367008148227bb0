# Sourced by launcher scripts: takes the words common to all of them, and defines log, pre_launch and post_launch.

set -e

_PSI_J_JOB_ID="$1"
_PSI_J_LOG_FILE="$2"
_PSI_J_PRE_LAUNCH="$3"
_PSI_J_POST_LAUNCH="$4"
_PSI_J_STDIN="$5"
_PSI_J_STDOUT="$6"
_PSI_J_STDERR="$7"
shift 7

# The exit code of a launcher script is that of the job, which is 0 until a process fails.
_PSI_J_FAILED_EC=0

if [ -n "$_PSI_J_LOG_FILE" ]; then
    exec 3>>"$_PSI_J_LOG_FILE"
else
    exec 3>/dev/null
fi

log() {
    # printf's own clock: a program for each line would cost more than the rest of the script
    TZ=UTC printf '%(%Y-%m-%d %H:%M:%S)T %s %s\n' -1 "$_PSI_J_JOB_ID" "$*" >&3
}

log "Launcher: $0"
log "Pre-launch: \"$_PSI_J_PRE_LAUNCH\""
log "Post-launch: \"$_PSI_J_POST_LAUNCH\""

# What the sourced scripts print is not the job's output: it goes to the log where there is one, else to the launcher's
# own streams, which are kept and shown if the job fails. They are sourced without set -e, as they were written to be.
_psi_j_source() {
    log "Running $1"
    set +e
    if [ -n "$_PSI_J_LOG_FILE" ]; then
        source "$2" >&3 2>&3
    else
        source "$2"
    fi
    _PSI_J_SOURCED_EC=$?
    set -e
    if [ "$_PSI_J_SOURCED_EC" != 0 ]; then
        log "$1 script $2 failed with exit code $_PSI_J_SOURCED_EC"
        echo "the $1 script $2 failed with exit code $_PSI_J_SOURCED_EC" >&2
        exit "$_PSI_J_SOURCED_EC"
    fi
}

pre_launch() {
    [ -z "$_PSI_J_PRE_LAUNCH" ] || _psi_j_source pre-launch "$_PSI_J_PRE_LAUNCH"
}

post_launch() {
    [ -z "$_PSI_J_POST_LAUNCH" ] || _psi_j_source post-launch "$_PSI_J_POST_LAUNCH"
}

# Runs a command with the job's streams; its exit code goes to _PSI_J_FAILED_EC.
_psi_j_run() {
    set +e
    if [ "$_PSI_J_STDOUT" = "$_PSI_J_STDERR" ]; then
        "$@" <"$_PSI_J_STDIN" >"$_PSI_J_STDOUT" 2>&1 3>&-
    else
        "$@" <"$_PSI_J_STDIN" >"$_PSI_J_STDOUT" 2>"$_PSI_J_STDERR" 3>&-
    fi
    _PSI_J_FAILED_EC=$?
    set -e
    log "Command done, exit code $_PSI_J_FAILED_EC"
}
