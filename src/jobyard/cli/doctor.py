"""``jobyard doctor``: what on this machine could keep jobs from working, and what to do about it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .options import common, json_option

if TYPE_CHECKING:
    from ..contact import Contact

__all__ = ["Finding", "command", "findings"]

_LEAST_FREE_BYTES = 256 * 2**20
_MOST_SKEW_S = 2.0
_OVER_NETWORK = ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "nfs", "smb", "wekafs")
_FRONTS = ("drmaa", "psij", "gc3libs")


class Finding(NamedTuple):
    """One thing that was looked at: ``ok``, ``note`` or ``wrong``; what was found; what to do."""

    level: str
    what: str
    found: str
    advice: str = ""


@click.command("doctor")
@json_option
@common
def command(contact: str | None, as_json: bool) -> int:
    """Check folders, permissions, clocks, file systems, Python and packages.

    Nothing is changed, and no job is sent. The exit status is 1 if something is wrong.
    """
    from .output import plain, print_json

    found = list(findings(contact))
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            click.echo(f"{finding.level.ljust(5)}  {finding.what.ljust(width)}  {plain(finding.found)}")
            if finding.advice:
                click.echo(f"{'':5}  {'':{width}}  -> {plain(finding.advice)}")
    return 1 if any(finding.level == "wrong" for finding in found) else 0


def findings(contact: str | None) -> Iterator[Finding]:
    """All that is looked at, in order."""
    yield _python()
    yield from _contact(contact)
    yield from _folders()
    yield _shepherd()
    yield from _machine()
    yield from _packages()


def _python() -> Finding:
    from .. import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok", "jobyard", f"{__version__}, Python {version} ({sys.executable}), {sys.platform}")


def _contact(contact: str | None) -> Iterator[Finding]:
    from ..config import config_path, load, resolve
    from ..errors import JobyardError
    from ..schedulers import find_known, open_scheduler

    try:
        path = config_path()
        config = load(path)
    except JobyardError as error:
        yield Finding("wrong", "configuration", str(error), "mend the file; until then nothing can be submitted")
        return
    yield Finding("ok", "configuration", f"{path}" if path.exists() else f"none ({path} would be read)")
    try:
        resolved: Contact = resolve(contact, config)
        entry = find_known(resolved.scheduler)
    except JobyardError as error:
        yield Finding("wrong", "contact", str(error))
        return
    try:
        open_scheduler(resolved).close()  # nothing is started or asked by that
    except JobyardError as error:
        yield Finding("wrong", "contact", f"{resolved}: {error}", entry.hint)
    else:
        yield Finding("ok", "contact", f"{resolved} ({entry.title})")


# Folders --------------------------------------------------------------------------------------------------------------


def _folders() -> Iterator[Finding]:
    from ..config import state_dir, work_root
    from ..errors import ConfigurationError

    for what, variable, place in (("state folder", "JOBYARD_STATE_DIR", state_dir), ("work folder", "JOBYARD_WORK_DIR", work_root)):
        try:
            path = place()
        except ConfigurationError as error:
            yield Finding("wrong", what, str(error))
            continue
        yield from _folder(what, variable, path)


def _folder(what: str, variable: str, path: Path) -> Iterator[Finding]:
    near = path
    while not near.exists() and near != near.parent:
        near = near.parent
    if near == path:
        yield _permissions(what, path)
    elif os.access(near, os.W_OK | os.X_OK) and near.is_dir():
        yield Finding("ok", what, f"{path} (not made yet; {near} can hold it)")
    else:
        yield Finding("wrong", what, f"{path} cannot be made: {near} is not a folder that you may write in", f"set {variable}")
        return
    if not os.access(near, os.W_OK | os.X_OK):
        return
    yield _file_system(what, near)
    yield _space(what, variable, near)
    yield _clock(what, near)


def _permissions(what: str, path: Path) -> Finding:
    info = path.lstat()
    if not path.is_dir() or path.is_symlink():
        return Finding("wrong", what, f"{path} is no folder", "move it away")
    if info.st_uid != os.getuid():
        return Finding("wrong", what, f"{path} belongs to user {info.st_uid}, not to you", "move it away, or choose another folder")
    if info.st_mode & 0o022:
        return Finding("wrong", what, f"{path} can be written by others (mode {info.st_mode & 0o777:o})", f"chmod 700 {path}")
    if info.st_mode & 0o055:
        return Finding("note", what, f"{path} can be read by others (mode {info.st_mode & 0o777:o})", f"chmod 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("wrong", what, f"{path} cannot be written in", f"chmod 700 {path}")
    return Finding("ok", what, f"{path}, yours alone")


def _file_system(what: str, near: Path) -> Finding:
    from ..schedulers.local.paths import file_system

    kind = file_system(str(near)) or "of a kind that cannot be told"
    if what == "state folder" and kind.startswith(_OVER_NETWORK):
        return Finding(
            "note",
            f"{what}: file system",
            f"{kind}, over the network",
            "the journal then goes without its write-ahead log, and the embedded scheduler keeps its own state in /var/tmp",
        )
    return Finding("ok", f"{what}: file system", kind)


def _space(what: str, variable: str, near: Path) -> Finding:
    from ..units import format_memory

    info = os.statvfs(near)
    free = info.f_bavail * info.f_frsize
    if free < _LEAST_FREE_BYTES:
        return Finding("wrong", f"{what}: space", f"{format_memory(free)} free", f"make room, or set {variable}")
    if info.f_files and not info.f_favail:
        return Finding("wrong", f"{what}: space", "no file can be made: no inode is free", f"make room, or set {variable}")
    return Finding("ok", f"{what}: space", f"{format_memory(free)} free")


def _clock(what: str, near: Path) -> Finding:
    """The file system's clock against this machine's: over the network they can differ, and receipts carry both."""
    import tempfile

    before = time.time()
    with tempfile.TemporaryFile(dir=near) as file:
        file.write(b"x")
        file.flush()
        written = os.fstat(file.fileno()).st_mtime
    after = time.time()
    skew_s = max(before - written, written - after, 0.0)
    if skew_s > _MOST_SKEW_S:
        return Finding(
            "note",
            f"{what}: clock",
            f"the file system's clock is {skew_s:.1f} s away from this machine's",
            "let both follow one source",
        )
    return Finding("ok", f"{what}: clock", "agrees with this machine's")


# The machine ----------------------------------------------------------------------------------------------------------


def _shepherd() -> Finding:
    """The shepherd runs where jobs run, with the python3 of that place; of this machine's we can tell."""
    import shutil
    import subprocess

    program = shutil.which("python3")
    advice = "install python3 there; it needs nothing but the standard library"
    if program is None:
        return Finding("wrong", "python for the shepherd", "no python3 on PATH here, and perhaps not where jobs run", advice)
    try:
        done = subprocess.run(
            [program, "-c", "import sys; print(*sys.version_info[:3], sep='.')"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("wrong", "python for the shepherd", f"{program}: {error}", advice)
    version = done.stdout.strip()
    if done.returncode or not version:
        return Finding("wrong", "python for the shepherd", f"{program} does not run: {done.stderr.strip()[-200:]}", advice)
    if tuple(map(int, version.split("."))) < (3, 6):
        return Finding("wrong", "python for the shepherd", f"{program} is {version}; 3.6 or newer is needed", advice)
    return Finding("ok", "python for the shepherd", f"{program} is {version}")


def _machine() -> Iterator[Finding]:
    import sqlite3

    yield Finding("ok", "SQLite", sqlite3.sqlite_version)
    if sys.platform != "linux":
        yield Finding(
            "note", "embedded scheduler", f"needs Linux, not {sys.platform}", "use a contact with +ssh, or another scheduler"
        )
    elif not hasattr(os, "pidfd_open"):
        yield Finding("wrong", "embedded scheduler", "this Python has no pidfd_open", "use a Python built for Linux 5.3 or newer")
    else:
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            yield Finding("wrong", "embedded scheduler", f"pidfd_open: {error.strerror}", "it needs Linux 5.3 or newer")
        else:
            yield Finding("ok", "embedded scheduler", f"{os.uname().sysname} {os.uname().release}, {os.cpu_count()} cores")


def _packages() -> Iterator[Finding]:
    """Which installed distribution ``import drmaa`` and the others would find: ours, or another's."""
    from importlib.metadata import packages_distributions

    providers = packages_distributions()
    for name in _FRONTS:
        where = _place(name)
        names = sorted(set(providers.get(name, ())))
        if not names and where is not None and where.parent == Path(__file__).parents[2]:
            names = ["jobyard"]  # installed in place, so its list of files does not tell
        shown = "" if where is None else f" ({where})"
        if len(names) > 1:
            others = ", ".join(other for other in names if other != "jobyard")
            advice = f"one has overwritten the other: uninstall {others}, then install jobyard again"
            yield Finding("wrong", f"import {name}", f"{' and '.join(names)} both provide it{shown}", advice)
        elif names:
            yield Finding("ok" if names == ["jobyard"] else "note", f"import {name}", f"{names[0]}{shown}")
        elif where is not None:
            yield Finding("note", f"import {name}", f"no installed distribution provides it; it would come from {where}")
        else:
            yield Finding("note", f"import {name}", "nothing provides it")


def _place(name: str) -> Path | None:
    """Where a package would be imported from, without importing it."""
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]) if places else Path(spec.origin) if spec.origin else None
