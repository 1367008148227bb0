"""Executors and launchers by name: the built-in table, and descriptors found on ``sys.path`` when they are first needed."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packaging.version import Version

    from .descriptor import Descriptor

logger = logging.getLogger(__name__)

_FOLDER = "psij-descriptors"
_PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)
VERSION = "0.9.11"
"""That of the built-in executors and launchers."""


class Entry:
    """One class under one name."""

    def __init__(self, desc: Descriptor, root: str) -> None:
        self.desc = desc
        self.root = root

    def load(self, kind: str) -> type:
        """Import the class. ValueError, chained, where that cannot be done."""
        try:
            cls = _load(self.desc.cls, self.root)
            # The built-in ones say here whether the engine has an adapter for their scheduler.
            getattr(cls, "_check_available", lambda: None)()
            return cls
        except Exception as error:
            # The module is somebody else's and may raise anything.
            raise ValueError(f'Unable to load {kind} "{self.desc.name}" ({self.desc.cls}) from {self.root}: {error}') from error


class Registry:
    """The names of one kind, ``executor`` or ``launcher``."""

    def __init__(self, kind: str, base: str, builtin: dict[str, tuple[str, tuple[str, ...], str]]) -> None:
        self.kind = kind
        self._base = base
        self._entries: dict[str, list[Entry]] = {}
        self._aliases: dict[str, str] = {}
        self._lock = threading.RLock()
        from .descriptor import Descriptor

        for name, (cls, aliases, nice) in builtin.items():
            desc = Descriptor(name, _Lazy(VERSION), cls, list(aliases), nice)  # type: ignore[arg-type]  # parsed when read
            for key in (name, *aliases):
                self._entries[key] = [Entry(desc, _PACKAGE_ROOT)]

    def names(self) -> set[str]:
        """All names and aliases."""
        scan()
        return set(self._entries)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All names with what they stand for."""
        scan()
        for name in sorted(self._entries):
            for entry in self._entries[name]:
                yield name, entry

    def known(self, name: str) -> bool:
        """Whether the name is registered already, without a search."""
        return name.lower() in self._entries

    def register(self, desc: Descriptor, root: str) -> None:
        """Add a descriptor. ValueError where the same name and version are there already, from elsewhere."""
        for key in (desc.name.lower(), *(alias.lower() for alias in desc.aliases)):
            with self._lock:
                entries = self._entries.setdefault(key, [])
                for entry in entries:
                    if str(entry.desc.version) != str(desc.version):
                        continue
                    if (entry.desc.cls, os.path.abspath(entry.root)) == (desc.cls, os.path.abspath(root)):
                        break
                    raise ValueError(
                        f"{self.kind} {key!r} version {desc.version} is already registered from {entry.root} as {entry.desc.cls}"
                    )
                else:
                    entries.append(Entry(desc, root))

    def choose(self, name: str, constraint: str | None) -> Entry:
        """The highest version under the name that satisfies the constraint; ValueError where there is none."""
        key = name.lower() if isinstance(name, str) else name
        if key not in self._entries:
            scan()
        entries = self._entries.get(key)
        if not entries:
            known = ", ".join(sorted(self._entries))
            raise ValueError(f'No such {self.kind} "{name}". Known {self.kind}s: {known}')
        if constraint is None and len(entries) == 1:
            return entries[0]
        versions = sorted(((as_version(entry.desc.version), at) for at, entry in enumerate(entries)), reverse=True)
        allowed = specifiers(constraint)
        for version, at in versions:
            if allowed is None or allowed.contains(version, prereleases=True):
                return entries[at]
        found = ", ".join(str(version) for version, _ in versions)
        raise ValueError(f'No version of {self.kind} "{name}" satisfies {constraint!r}; there is {found}')

    def make(self, name: str, constraint: str | None, arguments: dict[str, Any]) -> Any:
        """An instance of the class under the name, made with the keyword arguments."""
        entry = self.choose(name, constraint)
        cls = entry.load(self.kind)
        base = _resolve(self._base)
        if not isinstance(cls, type) or not issubclass(cls, base):
            raise ValueError(f'Unable to load {self.kind} "{name}": {entry.desc.cls} is not a {base.__name__}')
        # Name and version belong to the instance: one class may stand under several. They are there before __init__ runs.
        instance = cls.__new__(cls)
        instance.__dict__["_NAME_"] = entry.desc.name
        instance.__dict__["_VERSION_"] = entry.desc.version
        cls.__init__(instance, **arguments)
        return instance


class _Lazy:
    """A version that is parsed when somebody reads it: packaging takes longer to import than all of psij."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def as_version(version: Any) -> Version:
    """A ``packaging.version.Version`` of one, or of anything whose text is one. ValueError otherwise."""
    from packaging.version import Version

    return version if isinstance(version, Version) else Version(str(version))


def specifiers(constraint: str | None) -> Any:
    """The versions that a constraint such as ``( > 0.0.2, != 0.0.4)`` allows; ValueError where it is none."""
    if constraint is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = constraint.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{constraint!r} is not a version constraint; write one like '>= 0.2, != 0.4'") from error


# Searching ------------------------------------------------------------------------------------------------------------

_scanned: set[str] = set()
_scan_lock = threading.RLock()


def scan() -> None:
    """Look for descriptors in the folders of ``sys.path`` that were not looked into yet."""
    with _scan_lock:
        for entry in sys.path:
            root = os.path.abspath(entry or os.getcwd())
            if root in _scanned:
                continue
            _scanned.add(root)
            try:
                names = sorted(os.listdir(os.path.join(root, _FOLDER)))
            except OSError:
                continue  # most entries of sys.path have no such folder
            for name in names:
                if name.endswith(".py") and name != "__init__.py":
                    _read(root, os.path.join(root, _FOLDER, name))


def _read(root: str, path: str) -> None:
    try:
        module = _module_at(f"_psij_descriptors.{os.path.basename(path)[:-3]}", path)
        found = [
            (registry, desc)
            for registry, names in ((executors(), "__PSI_J_EXECUTORS__"), (launchers(), "__PSI_J_LAUNCHERS__"))
            for desc in getattr(module, names, ())
        ]
    except Exception:
        logger.warning("cannot read the descriptors in %s", path, exc_info=True)
        return
    for registry, desc in found:
        try:
            registry.register(desc, root)
        except (ValueError, AttributeError, TypeError) as error:
            logger.warning("a descriptor in %s is left out: %s", path, error)


def _module_at(name: str, path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Loading ----------------------------------------------------------------------------------------------------------


def _load(cls: str, root: str) -> type:
    """The class, from a module that lies below ``root``; a module of that name from elsewhere is refused."""
    module_name, _, class_name = cls.rpartition(".")
    if not module_name:
        raise ImportError(f"{cls!r} is not the full name of a class")
    relative = os.path.join(root, *module_name.split("."))
    files = [relative + ".py", os.path.join(relative, "__init__.py")]
    if not any(os.path.isfile(path) for path in files):
        raise ImportError(f"there is no module {module_name} under {root}")
    module: ModuleType | None = None
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # What it imports is missing; or its package's name is taken by a module that has no such part.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
    if module is None or not any(_same_file(module, path) for path in files):
        # The name is taken by a module of another root; this one gets a private name, and is loaded once.
        private = f"_psij_plugin_{abs(hash(root)):x}_{module_name}"
        path = next(path for path in files if os.path.isfile(path))
        module = sys.modules.get(private) or _module_at(private, path)
        sys.modules[private] = module
    found: type = getattr(module, class_name)
    return found


def _same_file(module: ModuleType, path: str) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and os.path.exists(path) and os.path.samefile(origin, path)


def _resolve(name: str) -> type:
    module, _, attribute = name.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


# The built-in ones -------------------------------------------------------------------------------------------------

_BATCH = "psij.executors.batch"
EXECUTORS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "local": ("psij.executors.local.LocalJobExecutor", (), "Local"),
    "slurm": (f"{_BATCH}.slurm.SlurmJobExecutor", (), "Slurm"),
    "pbs": (f"{_BATCH}.pbs.PBSJobExecutor", ("pbspro", "pbs_pro"), "PBS Pro"),
    "pbs_classic": (f"{_BATCH}.pbs_classic.PBSClassicJobExecutor", ("torque",), "PBS Classic / Torque"),
    "lsf": (f"{_BATCH}.lsf.LsfJobExecutor", (), "LSF"),
    "cobalt": (f"{_BATCH}.cobalt.CobaltJobExecutor", (), "Cobalt"),
    "flux": ("psij.executors.flux.FluxJobExecutor", (), "Flux"),
    "hyperqueue": ("psij.executors.hyperqueue.HyperQueueJobExecutor", (), "HyperQueue"),
    "nqsv": (f"{_BATCH}.nqsv.NQSVJobExecutor", (), "NEC NQSV"),
    "gridengine": (f"{_BATCH}.gridengine.GridEngineJobExecutor", ("sge",), "Grid Engine"),
    "htcondor": (f"{_BATCH}.htcondor.HTCondorJobExecutor", (), "HTCondor"),
    "oar": (f"{_BATCH}.oar.OARJobExecutor", (), "OAR"),
}
LAUNCHERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "single": ("psij.launchers.single.SingleLauncher", (), "Single"),
    "multiple": ("psij.launchers.multiple.MultipleLauncher", (), "Multiple"),
    "mpirun": ("psij.launchers.mpirun.MPILauncher", (), "mpirun"),
    "srun": ("psij.launchers.srun.SrunLauncher", (), "srun"),
    "jsrun": ("psij.launchers.jsrun.JsrunLauncher", ("jrun",), "jsrun"),
    "aprun": ("psij.launchers.aprun.AprunLauncher", (), "aprun"),
}

_registries: dict[str, Registry] = {}


def executors() -> Registry:
    """The registry of executors."""
    return _registries.get("executor") or _registries.setdefault(
        "executor", Registry("executor", "psij.job_executor:JobExecutor", EXECUTORS)
    )


def launchers() -> Registry:
    """The registry of launchers."""
    return _registries.get("launcher") or _registries.setdefault(
        "launcher", Registry("launcher", "psij.job_launcher:Launcher", LAUNCHERS)
    )
