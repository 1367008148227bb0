#!/bin/sh
# Build the sdist and, from it, the wheel; run the whole suite against that wheel in a virtual environment of its own.
#
#   tools/test_installed.sh [PYTEST ARGUMENTS]
set -eu
cd "$(dirname "$0")/.."
tools/setup.sh dev
python="$PWD/${VENV:-.venv}/bin/python"
room=$(mktemp -d "${TMPDIR:-/tmp}/jobyard-installed.XXXXXX")
trap 'rm -rf "$room"' EXIT
trap 'exit 130' INT TERM

"$python" -m build --outdir "$room/dist" . >"$room/build.log" 2>&1 || { cat "$room/build.log" >&2; exit 1; }
tail -n 1 "$room/build.log"

"$python" -m venv "$room/venv"
"$python" tools/groups.py test >"$room/wanted.txt"
"$room/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$room"/dist/*.whl --requirement "$room/wanted.txt"
# What runs on lookalikes of other schedulers' commands says nothing more of the wheel than what runs on the stand-in.
# -P: the working directory stays off the path, so nothing but the wheel can be imported as jobyard.
JOBYARD_TEST_INSTALLED="$room/venv" "$room/venv/bin/python" -P -m pytest -p no:cacheprovider -n 4 --dist loadscope \
    --ignore-glob='*/lookalikes/test_*_conformance.py' "$@"
