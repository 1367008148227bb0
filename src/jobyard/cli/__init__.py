"""The ``jobyard`` command. One module for each verb, imported when the verb is used."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command with the words of this process, and end the process with its status."""
    import sys

    from .app import run

    sys.exit(run(sys.argv[1:]))
