#!/bin/bash
# Start an sshd of its own on 127.0.0.1, for one ordinary user (or for whoever runs this), with its own keys and client settings.
#
#   testbeds/ssh/up.sh FOLDER [PORT]      FOLDER is made; PORT 0 or none: a free one
#
# FOLDER gets: port, pid, log (of sshd), config (for ssh -F), known_hosts, key, and sshd_config. Printed: the port.
# Settings (environment): SSH_USER=labuser (as root: the sshd runs as that user), SSHD_SETTINGS (lines for sshd_config, before ours),
#   SSH_ENVIRONMENT ("NAME=value NAME=value": what a login gets), SSHD_ENV (words for env(1) that starts sshd), LAB_INSTALL=1.
set -euo pipefail
folder=${1:?"usage: up.sh FOLDER [PORT]"}
port=${2:-0}
sshd=$(command -v sshd || echo /usr/sbin/sshd)

if [ ! -x "$sshd" ]; then
    [ "$(id -u)" = 0 ] && [ "${LAB_INSTALL:-1}" = 1 ] || { echo "ssh bed: there is no sshd; install Debian's openssh-server" >&2; exit 1; }
    # the system's own sshd is not started: nobody asked for it
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 -qq install -y --no-install-recommends openssh-server >/dev/null
fi

mkdir -p "$folder"
chmod 700 "$folder"
folder=$(cd "$folder" && pwd)
me=$(id -un)
login=$me
as=()
if [ "$me" = root ] && [ -n "${SSH_USER:-}" ] && [ "$SSH_USER" != root ]; then
    login=$SSH_USER
    as=(setpriv --reuid "$login" --regid "$login" --init-groups --)
fi
[ "$login" != root ] || mkdir -p /run/sshd # an sshd of root's keeps its less privileged half there

[ -e "$folder/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C host -f "$folder/host_key"
[ -e "$folder/key" ] || ssh-keygen -q -t ed25519 -N '' -C user -f "$folder/key"
cp "$folder/key.pub" "$folder/authorized_keys"

if [ "$port" = 0 ]; then
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
environment=
[ -z "${SSH_ENVIRONMENT:-}" ] || environment="SetEnv $SSH_ENVIRONMENT"
cat > "$folder/sshd_config" <<END
${SSHD_SETTINGS:-}
Port $port
ListenAddress 127.0.0.1
HostKey $folder/host_key
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile $folder/authorized_keys
PermitRootLogin prohibit-password
PrintMotd no
MaxStartups 200:30:400
LogLevel VERBOSE
Subsystem sftp internal-sftp
$environment
END
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$folder/host_key.pub")" > "$folder/known_hosts"
cat > "$folder/config" <<END
Host *
    HostName 127.0.0.1
    Port $port
    User $login
    IdentityFile $folder/key
    IdentitiesOnly yes
    UserKnownHostsFile $folder/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
END
: > "$folder/log"
[ "$login" = "$me" ] || chown -R "$login" "$folder"

# shellcheck disable=SC2086
env ${SSHD_ENV:-} "${as[@]}" "$sshd" -D -E "$folder/log" -f "$folder/sshd_config" </dev/null >/dev/null 2>&1 &
pid=$!
disown "$pid"
echo "$pid" > "$folder/pid"
for _ in $(seq 200); do
    if grep -q 'Server listening' "$folder/log"; then
        echo "$port" > "$folder/port"
        echo "$port"
        exit 0
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
done
echo "ssh bed: sshd does not listen:" >&2
tail -5 "$folder/log" >&2
exit 1
