"""Virtual environments of the peers, made at first use under bench/out/."""

from __future__ import annotations

import subprocess
import sys

from .measure import OUT

PACKAGES = {"drmaa": "drmaa==0.7.9", "psij": "psij-python==0.9.11", "hyperqueue": "hyperqueue==0.27.0"}


def python_of(peer: str) -> str:
    """The interpreter that has that peer."""
    folder = OUT / f"venv-{peer}"
    python = folder / "bin" / "python"
    stamp = folder / "ready"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        extra = ["setuptools<81"] if peer == "psij" else []  # it imports pkg_resources
        subprocess.run([str(python), "-m", "pip", "install", "-q", PACKAGES[peer], *extra], check=True)
        stamp.touch()
    return str(python)
