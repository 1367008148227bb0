#!/bin/bash
# Stop the OAR that up.sh started.
#   down.sh             stop           down.sh --purge    stop, and forget its database       down.sh --server   only the server
set -u
state=${LAB_STATE:-/var/lib/lab}/oar
if [ "${1:-}" != --server ]; then
    exec 9>/run/lab-oar.lock
    flock -w 300 9 || { echo "[oar] another up.sh or down.sh is running" >&2; exit 1; }
fi
stop() { # pidfile, a word of its command line, signal
    local pid
    [ -s "$1" ] || return 0
    pid=$(head -n 1 "$1")
    if { tr "\0" " " <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -- "$2"; then
        kill "-${3:-TERM}" "$pid"
        for _ in $(seq 1 60); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
        kill -KILL "$pid" 2>/dev/null
    fi
    rm -f "$1"
}
# The server is a family of processes of the user oar that name themselves Almighty.
family() {
    local p
    for p in $(ps -o pid= -u oar 2>/dev/null); do
        { tr "\0" " " <"/proc/$p/cmdline"; } 2>/dev/null | grep -q Almighty && echo "$p"
    done
}
for signal in TERM TERM KILL; do
    for p in $(family); do kill "-$signal" "$p" 2>/dev/null; done
    for _ in $(seq 1 16); do [ -z "$(family)" ] && break; sleep 0.25; done
done
rm -f /run/oar-server.pid
[ "${1:-}" = --server ] && exit 0
stop "$state/run/sshd.pid" sshd
stop "$state/pg/data/postmaster.pid" postgres INT
[ "${1:-}" != --purge ] || rm -rf "$state"
exit 0
