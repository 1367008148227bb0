#!/bin/sh
# Make .venv with this project in it, editable: once, and again whenever pyproject.toml changes.
#
#   tools/setup.sh [GROUP]      GROUP: a dependency group of pyproject.toml ("dev"); without one, the project alone
#
# PYTHON=... chooses the interpreter; VENV=... the folder.
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
group=${1:-}
here="$venv/bin/python"

say() { printf 'setup: %s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed and was not found on PATH; install it, or set PYTHON to its path"
    return 1
}

make_venv() {
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        # Debian and Ubuntu keep both in a package of their own.
        package="python$version-venv"
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
            say "$python cannot make virtual environments; install its package first: sudo apt install $package"
            return 1
        fi
        say "installing $package, which makes virtual environments"
        apt-get update -qq || say "the package lists could not be refreshed; going on with those that are here"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >&2
    fi
    say "making $venv with Python $version ($python)"
    "$python" -m venv --clear "$venv"
}

if ! new_enough "$here"; then
    make_venv
fi
"$here" -m pip --version >/dev/null 2>&1 || "$here" -m ensurepip >/dev/null

stamp="$venv/.set-up${group:+-$group}"
want=$("$here" tools/groups.py --digest)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    exit 0
fi
wanted="$venv/.wanted.txt"
: >"$wanted"
if [ -n "$group" ]; then
    "$here" tools/groups.py "$group" >"$wanted"
fi
say "installing jobyard${group:+ and what its group '$group' names} into $venv"
"$here" -m pip install --quiet --disable-pip-version-check --editable . --requirement "$wanted"
rm -f "$wanted"
printf '%s\n' "$want" >"$stamp"
