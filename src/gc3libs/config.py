"""``Configuration``: the resources of ``gc3pie.conf`` as backends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jobyard
from jobyard import fronts

from .exceptions import ConfigurationError, Error
from .quantity import Duration, Memory
from .utils import Struct

__all__ = ["Configuration"]

_TYPES = {"slurm": "slurm:SlurmLrms", "sge": "sge:SgeLrms", "pbs": "pbs:PbsLrms", "lsf": "lsf:LsfLrms"}
_NEEDED = ("architecture", "max_cores", "max_cores_per_job", "max_memory_per_core", "max_walltime")
_OWN = {"type", "name", "auth"}


class Configuration:
    """What configuration files say; later ones go first, key by key. Without any, the usual places.

    ``auths``, ``resources``: the sections as mappings of text. A class for a ``type`` that is not known here, or in place of one
    that is, goes to ``types``. ConfigurationError: a file is damaged.
    """

    def __init__(self, *locations: str | os.PathLike[str], types: Mapping[str, Callable[..., Any]] | None = None) -> None:
        paths = [Path(os.fspath(one)).expanduser() for one in locations] if locations else None
        missing = [str(path) for path in paths or () if not path.exists()]
        if missing:
            raise ConfigurationError(f"{', '.join(missing)}: there is no such file")
        try:
            found = fronts.gc3_configuration(paths)
        except jobyard.ConfigurationError as error:
            raise ConfigurationError(str(error)) from error
        self.auths = found.auths
        self.resources = found.resources
        self._origin = found.origin
        self._types = dict(types or {})

    def make_auth(self, name: str | None) -> Callable[[], Struct | None]:
        """A resource's ``auth``: a function that returns the login, or None. ConfigurationError: there is no such section."""
        if name in (None, "none"):
            return lambda: None
        login = self.auths.get(str(name))
        if login is None:
            raise ConfigurationError(f"there is no [auth/{name}]")
        values = {"username": None, "port": None, "keyfile": None, "ssh_config": None, "timeout": None, **login}
        return lambda: Struct(values)

    def make_resource(self, name: str) -> Any:
        """The backend of one resource. ConfigurationError: it lacks something, or a value makes no sense; names the file."""
        values = self.resources.get(name)
        if values is None:
            raise ConfigurationError(f"there is no [resource/{name}]; there are: {', '.join(sorted(self.resources)) or 'none'}")
        where = f"{self._origin[f'resource/{name}']}, [resource/{name}]"
        lacking = [key for key in ("type", *_NEEDED) if key not in values]
        if lacking:
            raise ConfigurationError(f"{where} lacks {', '.join(lacking)}")
        kind = self._kind(values["type"], where)
        arguments: dict[str, Any] = {"frontend": "localhost", "transport": "local", "name": name}
        arguments.update({key: value for key, value in values.items() if key not in _OWN})
        try:
            arguments["max_memory_per_core"] = Memory(values["max_memory_per_core"])
            arguments["max_walltime"] = Duration(values["max_walltime"])
            return kind(auth=self.make_auth(values.get("auth")), **arguments)
        except (Error, TypeError, ValueError) as error:
            raise ConfigurationError(f"{where}: {error}") from error

    def make_resources(self, ignore_errors: bool = True) -> dict[str, Any]:
        """The backends of all resources, by name. One that cannot be made is logged and left out, or raised."""
        from . import log

        made: dict[str, Any] = {}
        for name, values in self.resources.items():
            if values.get("enabled", "yes").lower() in ("no", "false", "off", "0"):
                continue
            try:
                made[name] = self.make_resource(name)
            except ConfigurationError as error:
                if not ignore_errors:
                    raise
                log.warning("left out: %s", error)
        return made

    def _kind(self, kind: str, where: str) -> Callable[..., Any]:
        if kind in self._types:
            return self._types[kind]
        target = _TYPES.get(kind.partition("+")[0])
        if target is None:
            raise ConfigurationError(f"{where}: type = {kind!r} is none of {', '.join(sorted({*_TYPES, *self._types}))}")
        from importlib import import_module

        module, _, name = target.partition(":")
        found: Callable[..., Any] = getattr(import_module(f".backends.{module}", __package__), name)
        return found
