"""Importing the front does nothing: no engine, no thread, no file, no output; and it is fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import json, os, sys, threading
before = set(sys.modules)
environment = dict(os.environ)
files = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
import drmaa
if len(sys.argv) > 1:
    import DRMAA
after = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
print(json.dumps({
    "engine": sorted(m for m in set(sys.modules) - before if m.split(".")[0] in ("jobyard", "msgspec", "ctypes", "sqlite3")),
    "threads": threading.active_count(),
    "files": len(after) - len(files),
    "environment": environment == dict(os.environ),
    "signals": __import__("signal").getsignal(__import__("signal").SIGINT) is __import__("signal").default_int_handler,
}))
"""


def _python(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **(env or {})}, capture_output=True, text=True, check=True, timeout=60
    )


def test_import_has_no_effects(tmp_path: Path) -> None:
    env = {"DRMAA_LIBRARY_PATH": "/nonexistent/libdrmaa.so", "JOBYARD_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    for arguments in ([], ["DRMAA too"]):
        done = _python("-c", PROBE, *arguments, env=env)
        assert json.loads(done.stdout) == {"engine": [], "threads": 1, "files": 0, "environment": True, "signals": True}
        assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_import_time() -> None:
    """Under 60 ms of processor time, which other work on the machine hardly changes; the least of several runs."""
    program = "import time; began = time.process_time(); import drmaa; print(time.process_time() - began)"
    assert min(float(_python("-c", program).stdout) for _ in range(5)) < 0.060


def test_star_import() -> None:
    done = _python("-c", "from drmaa import *; print(Session.version, JobState.DONE, TIMEOUT_NO_WAIT, 'ENCODING' in globals())")
    assert done.stdout == "1.0 done 0 False\n"
