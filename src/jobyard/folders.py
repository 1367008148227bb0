"""The folders that jobyard keeps things in, by environment variable or by the platform's custom. Nothing is made here."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ConfigurationError

__all__ = ["config_path", "state_dir", "work_root"]


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    if not os.path.isabs(value):
        raise ConfigurationError(f"{variable} is {value!r}; write an absolute path")
    return Path(os.path.normpath(value))


def config_path() -> Path:
    """Where the configuration file is, or would be. ConfigurationError: JOBYARD_CONFIG is not absolute."""
    named = _named("JOBYARD_CONFIG")
    if named is not None:
        return named
    import platformdirs  # here: what needs no folder of the platform's does not pay for it

    return Path(platformdirs.user_config_dir("jobyard")) / "config.toml"


def state_dir() -> Path:
    """The folder of journal and embedded scheduler; not made here. ConfigurationError: JOBYARD_STATE_DIR is not absolute."""
    named = _named("JOBYARD_STATE_DIR")
    if named is not None:
        return named
    import platformdirs

    return Path(platformdirs.user_state_dir("jobyard"))


def work_root() -> Path:
    """The folder of the jobs' folders, ``jobyard-UID`` under JOBYARD_WORK_DIR or else under ``work`` in the state folder.

    It must be the same folder on the compute nodes. Not made here. ConfigurationError: JOBYARD_WORK_DIR is not absolute.
    """
    return (_named("JOBYARD_WORK_DIR") or state_dir() / "work") / f"jobyard-{os.getuid()}"
