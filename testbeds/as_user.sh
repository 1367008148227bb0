#!/bin/bash
# Run tests, or any command, as the ordinary user of the test beds, with the programs and settings of one bed.
#
#   testbeds/as_user.sh BED [pytest arguments]       BED: slurm, slurm-24.11, gridengine, htcondor
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
trap 'rm -rf "$run" "$tmp"' EXIT
(cd "$project" && { tar -c --exclude=__pycache__ --exclude=.pytest_cache --exclude=bench/out src tests docs examples bench tools testbeds \
    pyproject.toml README.md CHANGELOG.md Makefile LICENSE* .ci || [ $? = 1 ]; }) | tar -x -C "$run"  # 1: a file was edited meanwhile
chown "$user" "$tmp"
chown -R "$user" "$run"
chmod 755 "$run"

settings=(HOME="/home/$user" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TMPDIR="$tmp" JOBYARD_BED="$bed"
    PYTHONPATH="$run/src" PYTHONDONTWRITEBYTECODE=1 FULL="${FULL:-}")
path=$room/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
case $bed in
    slurm) contact=slurm ;;
    slurm-*)
        case ${bed#slurm-} in 20.11) suite=bullseye ;; 24.11) suite=trixie ;; 26.05) suite=sid ;; *) echo "as_user: no bed $bed" >&2; exit 2 ;; esac
        contact=slurm path=${LAB_PREFIX:-/opt/lab}/slurm-$suite/bin:$path ;;
    gridengine)
        contact=gridengine
        settings+=(SGE_ROOT=/var/lib/gridengine SGE_CELL=default SGE_QMASTER_PORT=6444 SGE_EXECD_PORT=6445) ;;
    htcondor)
        contact=htcondor path=${LAB_PREFIX:-/opt/lab}/htcondor/bin:$path
        settings+=(CONDOR_CONFIG="${LAB_PREFIX:-/opt/lab}/htcondor/condor_config") ;;
    none) contact= ;;
    *) echo "as_user: no bed $bed" >&2; exit 2 ;;
esac
contact=${BED_CONTACT:-$contact}
if [ -n "$contact" ]; then
    settings+=(JOBYARD_BED_CONTACT="$contact" DRMAA_TEST_CONTACT="$contact" PSIJ_EXECUTORS="${contact%%\?*}")
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
