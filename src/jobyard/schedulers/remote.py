"""Schedulers of other hosts: the commands of a dialect, over OpenSSH."""

from __future__ import annotations

from ..contact import Contact
from ..errors import NoScheduler
from ..transports.base import Timeouts
from ..transports.openssh import OpenSSHTransport, Settings
from .base import Scheduler
from .command import CommandScheduler

__all__ = ["key_options", "over_ssh", "ssh_transport"]


def key_options(keyfile: str | None) -> tuple[str, ...]:
    """Options of ssh that let it log in with this key, and no other; their values are read as words of a configuration file."""
    if keyfile is None:
        return ()
    quoted = keyfile.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return (f'IdentityFile="{quoted}"', "IdentitiesOnly=yes")


def ssh_transport(contact: Contact) -> OpenSSHTransport:
    """The transport to a contact's host, with the contact's options. Nothing is connected."""
    assert contact.host is not None
    connect_s = contact.option("connect_timeout", 20.0)
    settings = Settings(
        host=contact.host,
        user=contact.user,
        port=contact.port,
        config=contact.option("ssh_config"),
        python=contact.option("python"),
        ignore_host_keys=contact.option("ignore_ssh_host_keys", False),
        share_s=contact.option("share"),
        ciphers=contact.option("ciphers"),
        options=key_options(contact.option("keyfile")),
        connect_s=connect_s,
    )
    timeouts = Timeouts(connect_s=connect_s, transfer_s=contact.option("transfer_timeout", 3600.0))
    return OpenSSHTransport(settings, path=contact.option("path"), timeouts=timeouts)


def over_ssh(scheduler: Scheduler, contact: Contact) -> None:
    """Have a scheduler's commands run on the contact's host. NoScheduler: it is not asked by commands."""
    if not isinstance(scheduler, CommandScheduler):
        scheduler.close()
        raise NoScheduler(
            f"{contact.scheduler} is not asked by commands, and cannot be reached over ssh; run jobyard on {contact.host} itself, "
            f"or name the scheduler of that host, as in 'slurm+ssh://{contact.host}'"
        )
    scheduler.reach_over(ssh_transport(contact))
