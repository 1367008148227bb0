"""Flux, by its command (docs/flux.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...contact import register_options
from ...transports.local import LocalTransport
from ..command import CommandScheduler
from .dialect import FluxDialect

__all__ = ["FluxDialect", "open_flux"]


def _uri(value: str) -> str:
    if "://" not in value or not value.isprintable() or value.startswith("-"):
        raise ValueError(f"{value!r} is no URI of a Flux instance; FLUX_URI within it shows it, like 'local:///run/flux/local'")
    return value


register_options("flux", {"server": _uri})  # the instance, instead of FLUX_URI or the system's


def open_flux(state_dir: Path, options: Mapping[str, str]) -> CommandScheduler:
    """What the table of schedulers calls: the Flux instance that ``server`` or FLUX_URI names, else the system's."""
    return CommandScheduler(FluxDialect(options.get("server")), LocalTransport())
