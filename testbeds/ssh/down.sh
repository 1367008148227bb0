#!/bin/bash
# Stop the sshd that up.sh started in FOLDER, and its sessions. --purge also removes the folder.
set -uo pipefail
folder=${1:?"usage: down.sh FOLDER [--purge]"}
pid=$(cat "$folder/pid" 2>/dev/null) || pid=
if [ -n "$pid" ] && tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF "$folder/sshd_config"; then
    sessions=$(ps -o pid= --ppid "$pid")
    for one in $sessions; do # the halves of a session: the listener's children, and theirs
        kill -CONT "$one" 2>/dev/null
        kill "$one" 2>/dev/null
    done
    kill -CONT "$pid" 2>/dev/null
    kill "$pid" 2>/dev/null
    for one in $pid $sessions; do
        for _ in $(seq 100); do kill -0 "$one" 2>/dev/null || break; sleep 0.05; done
        kill -9 "$one" 2>/dev/null
    done
fi
rm -f "$folder/pid"
[ "${2:-}" != --purge ] || rm -rf "$folder"
exit 0
