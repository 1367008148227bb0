"""``python -m psij plugins``: the executors and launchers that there are."""

from __future__ import annotations

import sys

from . import _plugins

_USAGE = "usage: python -m psij plugins\n\n  plugins   list executors and launchers, and whether each can be loaded\n"


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    if arguments != ["plugins"]:
        if arguments in (["-h"], ["--help"]):
            sys.stdout.write(_USAGE)
            return 0
        sys.stderr.write(_USAGE)
        return 2
    for title, registry in (("Executors", _plugins.executors()), ("Launchers", _plugins.launchers())):
        rows = [("Name", "Version", "Status", "Class")]
        for name, entry in registry.entries():
            try:
                entry.load(registry.kind)
                status = "ok"
            except ValueError as error:
                status = f"{type(error.__cause__).__name__}: {error.__cause__}"
            rows.append((name, str(entry.desc.version), status, entry.desc.cls))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        sys.stdout.write(f"{title}\n")
        for name, version, status, cls in rows:
            sys.stdout.write(f"  {name:<{widths[0]}}  {version:<{widths[1]}}  {status:<{widths[2]}}  {cls}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
