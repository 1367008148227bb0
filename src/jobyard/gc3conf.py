"""``gc3pie.conf``: the resources of GC3Pie's configuration files, as data, and as sites that any contact can name.

Read are, later ones going first: ``/etc/gc3/gc3pie.conf``, ``$VIRTUAL_ENV/etc/gc3/gc3pie.conf``, and ``$GC3PIE_CONF`` or
``~/.gc3/gc3pie.conf``. A ``[resource/NAME]`` of a batch system is the site NAME, unless config.toml has one of that name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from .contact import Contact
from .errors import ConfigurationError, InvalidContact

__all__ = ["Gc3Config", "default_paths", "read", "site_of"]

_MAX_BYTES = 1 << 20
_SCHEDULERS = {"slurm": "slurm", "sge": "gridengine", "pbs": "pbs", "lsf": "lsf"}
_HOME = re.compile(r"\A\$(?:HOME|\{HOME\})(?=/)")  # as GC3Pie's own default of spooldir has it
_SECTION = re.compile(r"(auth|resource)/([^/]+)")


class Gc3Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say: text by key, by section's name. ``origin``: the last file that a resource or auth stands in."""

    auths: Mapping[str, Mapping[str, str]] = {}
    resources: Mapping[str, Mapping[str, str]] = {}
    origin: Mapping[str, str] = {}  # by "resource/NAME"


def default_paths() -> list[Path]:
    """Where the files lie; those that are not there are passed over."""
    found = [Path("/etc/gc3/gc3pie.conf")]
    if os.environ.get("VIRTUAL_ENV"):
        found.append(Path(os.environ["VIRTUAL_ENV"]) / "etc" / "gc3" / "gc3pie.conf")
    own = os.environ.get("GC3PIE_CONF")
    found.append(Path(own) if own else Path("~/.gc3/gc3pie.conf").expanduser())
    return found


def read(paths: Iterable[Path] | None = None) -> Gc3Config:
    """The files' auth and resource sections, later files going first, key by key. ConfigurationError: one cannot be read, or is
    no such file; names it and the line."""
    import configparser

    auths: dict[str, dict[str, str]] = {}
    resources: dict[str, dict[str, str]] = {}
    origin: dict[str, str] = {}
    for path in default_paths() if paths is None else paths:
        text = _text(path)
        if text is None:
            continue
        parser = configparser.ConfigParser(strict=True)
        try:
            parser.read_string(text, str(path))
            for section in parser.sections():
                match = _SECTION.fullmatch(section)
                if match is not None:
                    table = auths if match[1] == "auth" else resources
                    table.setdefault(match[2], {"name": match[2]}).update(parser.items(section))
                    origin[section] = str(path)
        except configparser.Error as error:
            raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from error
    return Gc3Config(auths=auths, resources=resources, origin=origin)


def _text(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise ConfigurationError(f"{path}: is larger than 1 MiB, which no configuration is")
        return raw.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8") from error


def site_of(config: Gc3Config, name: str) -> tuple[Contact, Mapping[str, str]] | None:
    """The contact of a resource, and its options; None where there is no resource of that name.

    ConfigurationError: it is no batch system that is known, or lacks what a contact needs.
    """
    resource = config.resources.get(name)
    if resource is None:
        return None
    where = f"{config.origin[f'resource/{name}']}, [resource/{name}]"
    kind = resource.get("type", "").partition("+")[0]
    if kind not in _SCHEDULERS:
        raise ConfigurationError(
            f"{where}: type = {resource.get('type')!r} is no batch system; those known are {', '.join(_SCHEDULERS)}"
        )
    options = {key: resource[key] for key in ("queue", "account") if key in resource}
    transport = resource.get("transport", "local")
    try:
        if transport == "local":
            return Contact(scheduler=_SCHEDULERS[kind]), options
        if transport != "ssh":
            raise ConfigurationError(f"{where}: transport is local or ssh, not {transport!r}")
        if "frontend" not in resource:
            raise ConfigurationError(f"{where}: frontend is missing: the login host")
        login = _login(config, resource, where)
        options |= _host_options(resource, login)
        contact = Contact(
            scheduler=_SCHEDULERS[kind],
            host=resource["frontend"],
            user=login.get("username"),
            port=int(login["port"]) if "port" in login else None,
            options=options,
        )
        contact.check_options()
        return msgspec.structs.replace(contact, options={}), options
    except (InvalidContact, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _login(config: Gc3Config, resource: Mapping[str, str], where: str) -> Mapping[str, str]:
    name = resource.get("auth")
    if name is None or name == "none":
        return {}
    login = config.auths.get(name)
    if login is None:
        raise ConfigurationError(f"{where}: auth = {name}, and there is no [auth/{name}]")
    if login.get("type") not in ("ssh", "none"):
        raise ConfigurationError(
            f"{config.origin[f'auth/{name}']}, [auth/{name}]: type = {login.get('type')!r} is neither ssh nor none"
        )
    return login


def _host_options(resource: Mapping[str, str], login: Mapping[str, str]) -> dict[str, str]:
    """The contact's options for ssh; what the resource says goes first."""
    options: dict[str, str] = {}
    for key in ("ssh_config", "keyfile"):
        value = resource.get(key) or login.get(key)
        if value is not None:
            options[key] = os.path.expanduser(value)
    timeout = resource.get("ssh_timeout") or login.get("timeout")
    if timeout is not None:
        options["connect_timeout"] = f"{timeout}s" if timeout.isdecimal() else timeout
    if "ignore_ssh_host_keys" in resource:
        options["ignore_ssh_host_keys"] = resource["ignore_ssh_host_keys"]
    if "spooldir" in resource:
        options["work_dir"] = _HOME.sub("~", resource["spooldir"])
    return options
