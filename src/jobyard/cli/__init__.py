"""The ``jobyard`` command. One module for each verb, imported when the verb is used."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command with the words of this process, and end the process with its status."""
    import os
    import sys

    from .app import run

    for name in ("stdout", "stderr"):  # closed by who started us: what is written is nobody's
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
    sys.exit(run(sys.argv[1:]))
