"""What runs every day of the suites whose everyday form runs on another lookalike: a module's EVERY_DAY; the rest is ``long``."""

from __future__ import annotations

import fnmatch

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a module with EVERY_DAY, patterns on the ends of node ids, does not name."""
    for item in items:
        patterns = getattr(getattr(item, "module", None), "EVERY_DAY", None)
        if patterns is None:
            continue
        name = item.nodeid.partition("::")[2]
        if not any(fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns):
            item.add_marker(pytest.mark.long)
