#!/bin/bash
# Run tests, or any command, as the ordinary user of the test beds, with the programs and settings of one bed.
#
#   testbeds/as_user.sh BED [pytest arguments]       BED: slurm, slurm-24.11, gridengine, htcondor, hyperqueue, oar
#   testbeds/as_user.sh BED-ssh [pytest arguments]   the same bed, as a host that an sshd of the user's own leads to
#   testbeds/as_user.sh BED --shell COMMAND...
#   testbeds/as_user.sh none ...                     no scheduler's settings, the same user and Python
#
# Schedulers refuse or distrust root. The user gets a copy of the tree and a Python of its own, because it may be able to read
# neither the repository nor root's interpreter. Needs root on Debian, and the bed up (up.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
user=${LAB_USER:-labuser}
room=${BEDS_ROOM:-/var/lib/jobyard-beds}

[ "$(id -u)" = 0 ] || { echo "as_user: run as root; jobs then run as $user" >&2; exit 2; }
bed=${1:?"usage: as_user.sh BED [pytest arguments | --shell COMMAND...]"}
shift

id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user"
mkdir -p "$room/runs"
chmod 755 "$room" "$room/runs"

# A Python that everybody can run: Debian's, in an environment with what the tests need.
(
    flock 9
    PYTHON=/usr/bin/python3 VENV="$room/venv" "$project/tools/setup.sh" test
    chmod -R a+rX "$room/venv"
) 9>"$room/venv.lock"

# A copy of the tree, for this run alone.
run=$(mktemp -d "$room/runs/$bed.XXXXXX")
# The tests' own folders lie elsewhere: beside a tree that was just removed, this kind of file system is slow to make new files.
tmp=$(mktemp -d /tmp/bed.XXXXXX)
trap '"$run/testbeds/ssh/down.sh" "$tmp/ssh"; rm -rf "$run" "$tmp"' EXIT
(cd "$project" && { tar -c --exclude=__pycache__ --exclude=.pytest_cache --exclude=bench/out src tests docs examples bench tools testbeds \
    pyproject.toml README.md CHANGELOG.md Makefile LICENSE* .ci || [ $? = 1 ]; }) | tar -x -C "$run"  # 1: a file was edited meanwhile
chown "$user" "$tmp"
chown -R "$user" "$run"
chmod 755 "$run"

settings=(HOME="/home/$user" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TMPDIR="$tmp" JOBYARD_BED="$bed"
    PYTHONPATH="$run/src" PYTHONDONTWRITEBYTECODE=1 FULL="${FULL:-}")
path=$room/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
scheduler=()
case ${bed%-ssh} in
    slurm) contact=slurm ;;
    slurm-*)
        release=${bed%-ssh}
        case ${release#slurm-} in 20.11) suite=bullseye ;; 24.11) suite=trixie ;; 26.05) suite=sid ;; *) echo "as_user: no bed $bed" >&2; exit 2 ;; esac
        contact=slurm path=${LAB_PREFIX:-/opt/lab}/slurm-$suite/bin:$path ;;
    gridengine)
        contact=gridengine
        scheduler=(SGE_ROOT=/var/lib/gridengine SGE_CELL=default SGE_QMASTER_PORT=6444 SGE_EXECD_PORT=6445) ;;
    htcondor)
        contact=htcondor path=${LAB_PREFIX:-/opt/lab}/htcondor/bin:$path
        scheduler=(CONDOR_CONFIG="${LAB_PREFIX:-/opt/lab}/htcondor/condor_config") ;;
    oar) contact=oar ;;
    hyperqueue)  # a server of its own for each yard, which goes with it; cases want four jobs at a time
        contact='hyperqueue?cores=4' scheduler=(PSIJ_URL='hyperqueue?cores=4') ;;
    none) contact= ;;
    *) echo "as_user: no bed $bed" >&2; exit 2 ;;
esac
contact=${BED_CONTACT:-$contact}
if [[ $bed == *-ssh ]]; then
    # What a login gets is the bed's; folders of jobs lie where the tests' own do.
    mkdir "$tmp/there"
    chown "$user" "$tmp/there"
    SSH_USER=$user SSH_ENVIRONMENT="PATH=$path ${scheduler[*]}" "$project/testbeds/ssh/up.sh" "$tmp/ssh" >/dev/null
    contact+="+ssh://bed?ssh_config=${tmp//\//%2F}%2Fssh%2Fconfig&work_dir=${tmp//\//%2F}%2Fthere&connect_timeout=60"
    settings+=(PSIJ_URL="$contact")
fi
settings+=("${scheduler[@]}")
if [ -n "$contact" ]; then
    settings+=(JOBYARD_BED_CONTACT="$contact" DRMAA_TEST_CONTACT="$contact" PSIJ_EXECUTORS="${contact%%[+?]*}")
fi
settings+=(PATH="$path")

cd "$run"
if [ "${1:-}" = --shell ]; then
    shift
    command=("$@")
else
    command=("$room/venv/bin/python" -m pytest -p no:cacheprovider --basetemp "$tmp/pytest" "$@")
fi
env -i "${settings[@]}" setpriv --reuid "$user" --regid "$user" --init-groups -- "${command[@]}"
