"""Descriptors: how executors and launchers of other projects make themselves known.

A project puts a Python file into a ``psij-descriptors`` folder beside its packages (without ``__init__.py``, so that the
folders of all projects are one namespace). The file holds lists of descriptors::

    from packaging.version import Version
    from psij.descriptor import Descriptor

    __PSI_J_EXECUTORS__ = [Descriptor(name="mine", version=Version("1.0.2"), cls="my_project.mine.MineExecutor")]
    __PSI_J_LAUNCHERS__ = [...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

__all__ = ["Descriptor"]


class Descriptor:
    """An executor or launcher that can be instantiated by name.

    ``name`` (and ``aliases``, which mean the same) are case-insensitive; ``version`` is a ``packaging.version.Version``,
    and several versions may share a name; ``cls`` is the full name of the class; ``nice_name`` is for display.
    """

    def __init__(
        self, name: str, version: Version, cls: str, aliases: list[str] | None = None, nice_name: str | None = None
    ) -> None:
        self.name = name
        self.version = version
        self.cls = cls
        self.aliases = list(aliases or [])
        self.nice_name = nice_name if nice_name is not None else name

    def __repr__(self) -> str:
        return f"Descriptor(name={self.name!r}, version={str(self.version)!r}, cls={self.cls!r})"
