"""Contacts with a host: the options that they alone can have, and schedulers that cannot be elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard import Session
from jobyard.contact import Contact
from jobyard.errors import InvalidContact, NoScheduler
from jobyard.schedulers.command import CommandScheduler
from jobyard.transports.openssh import OpenSSHTransport


def test_the_options_reach_the_transport(yard: Path) -> None:
    options = (
        "ssh_config=%2Fetc%2Fhosts&python=%2Fopt%2Fpython3&ignore_ssh_host_keys=yes&connect_timeout=7s&share=10m&path=%2Fa:%2Fb"
    )
    contact = f"slurm+ssh://me@h:2222?{options.replace(':', '%3A')}&ciphers=aes128-gcm%40openssh.com"
    with Session(contact) as session:  # nothing is connected for it
        assert isinstance(session.scheduler, CommandScheduler)
        transport = session.scheduler.transport
        assert isinstance(transport, OpenSSHTransport)
        settings = transport.settings
        assert (settings.host, settings.user, settings.port) == ("h", "me", 2222)
        assert (settings.config, settings.python, settings.ignore_host_keys) == ("/etc/hosts", "/opt/python3", True)
        assert (settings.connect_s, settings.share_s, settings.ciphers) == (7.0, 600.0, "aes128-gcm@openssh.com")
        assert session.jobs() == []


@pytest.mark.parametrize(
    ("contact", "word"),
    [
        ("slurm?path=%2Fopt", "names none"),
        ("standin?ssh_config=%2Fx", "names none"),
        ("standin+ssh://h?path=relative", "absolute"),
        ("standin+ssh://h?python=a%20b", "program"),
        ("standin+ssh://h?python=%24%28id%29", "program"),
        ("standin+ssh://h?ignore_ssh_host_keys=maybe", "yes nor no"),
        ("standin+ssh://h?ciphers=a%20-oProxyCommand", "ciphers"),
        ("standin+ssh://h?work_dir=here", "absolute"),
        ("local?path=%2Fopt", "no option"),
    ],
)
def test_options_that_make_no_sense(contact: str, word: str) -> None:
    with pytest.raises(InvalidContact, match=word):
        Contact.parse(contact)


def test_the_embedded_scheduler_is_this_machine_s(yard: Path) -> None:
    with pytest.raises(NoScheduler, match="over ssh"):
        Session("local+ssh://login.example.org")
