"""What can go wrong between here and a login host, and how ssh's own words are read. ``explain`` is pure.

TransportError
├── HostUnreachable        no answer from the host, or from a jump host on the way (trying again can help)
├── LinkLost               the connection ended; what was under way is not known (trying again can help)
├── HostKeyUnknown         nobody has said yet that this host is the right one
├── HostKeyChanged         the host has another key than the one that is known
├── AuthenticationFailed   the host does not let us in
│   └── SecondFactorNeeded it asks for what only a person can answer, and there is nobody to ask
├── SSHConfigError         ssh refuses its own settings
└── NoHelper               ssh got there, but no helper runs
    ├── NoRemotePython     there is no Python that can run it
    └── LoginShellFailed   a start-up file of the login shell hangs, or ends the shell
"""

from __future__ import annotations

import re

from ..errors import TransportError
from .base import printable

__all__ = [
    "AuthenticationFailed",
    "HostKeyChanged",
    "HostKeyUnknown",
    "HostUnreachable",
    "LinkLost",
    "LoginShellFailed",
    "NoHelper",
    "NoRemotePython",
    "SSHConfigError",
    "SecondFactorNeeded",
    "explain",
]


class HostUnreachable(TransportError):
    """The host, or one on the way to it, does not answer."""


class LinkLost(TransportError):
    """The connection to the host ended. What a command did before is not known."""


class HostKeyUnknown(TransportError):
    """The host's key is not known here."""

    retryable = False


class HostKeyChanged(TransportError):
    """The host shows another key than the one that is known: it was set up anew, or it is another host."""

    retryable = False


class AuthenticationFailed(TransportError):
    """The host refuses the login."""

    retryable = False


class SecondFactorNeeded(AuthenticationFailed):
    """The host asks for a code or a password, and there is no terminal to ask on."""


class SSHConfigError(TransportError):
    """ssh's settings cannot be used."""

    retryable = False


class NoHelper(TransportError):
    """The login worked, but the helper did not start."""

    retryable = False


class NoRemotePython(NoHelper):
    """The host has no Python 3.6 or newer where it was looked for."""


class LoginShellFailed(NoHelper):
    """The login shell never came to the command."""


_INTERACTIVE = ("keyboard-interactive", "password")


def explain(
    host: str, stderr: str, *, returncode: int | None, noise: bytes = b"", timeout_s: float | None = None
) -> TransportError:
    """The error for a connection that did not come about, from ssh's own words (OpenSSH 7.4 to 9.9).

    ``returncode``: None while ssh still runs. ``noise``: what came on standard output in place of the helper's mark.
    ``timeout_s``: nothing came within that time.
    """
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    tail = printable(" / ".join(line for line in said if not line.startswith("Warning: Permanently added"))[-600:], 600)

    def find(*texts: str) -> str | None:
        return next((line for line in said for text in texts if text in line), None)

    if find("REMOTE HOST IDENTIFICATION HAS CHANGED", "differs from the key for the IP address"):
        return HostKeyChanged(f"{host}: {_changed(stderr)}")
    if find("Host key verification failed", "host key is known for", "host key is not cached"):
        return HostKeyUnknown(
            f"{host}: its host key is not known here. Connect once in a terminal ('ssh {_bare(host)}'), compare the "
            "fingerprint that it shows with the one that the site publishes, and try again"
        )
    denied = find("Permission denied (", "Too many authentication failures", "no more authentication methods")
    if denied is not None:
        return _denied(host, denied)
    if find(
        "Bad configuration option", "ControlPath too long", "unix_listener: cannot bind", "Bad owner or permissions", "Bad port"
    ):
        return SSHConfigError(f"{host}: ssh cannot use its settings: {tail}; correct the file that it names")
    if (
        find("terminating,", "bad configuration options", "keyword ", "Could not create directory")
        and returncode == 255
        and not noise
    ):
        return SSHConfigError(f"{host}: ssh cannot use its settings: {tail}; correct the file that it names")
    if find("NOPYTHON", "NOPYTHON3"):
        return NoRemotePython(
            f"{host}: no Python 3.6 or newer was found there; give its path with the contact's option python=/path/to/python3"
        )
    if find("Connection closed by UNKNOWN", "kex_exchange_identification", "banner exchange", "Connection closed by remote host"):
        return HostUnreachable(
            f"{host}: the connection was closed before the login: {tail}; look at the jump host or ProxyCommand, if there is one, "
            f"and try 'ssh {_bare(host)}'"
        )
    if find(
        "Could not resolve hostname",
        "Connection refused",
        "Connection timed out",
        "No route to host",
        "Network is unreachable",
        "Connection reset",
        "Operation timed out",
        "Host is down",
        "Connection closed by",
        "stdio forwarding failed",
        "channel 0: open failed",
    ):
        return HostUnreachable(f"{host}: it cannot be reached: {tail}")
    if timeout_s is not None:
        if noise.strip():
            return LoginShellFailed(
                f"{host}: its login shell did not come to the command within {timeout_s:g} s; it wrote {_shown(noise)}; look at "
                "the shell's start-up files there"
            )
        more = f"; ssh says: {tail}" if tail else ""
        return HostUnreachable(f"{host}: nothing came within {timeout_s:g} s{more}; try 'ssh {_bare(host)} true'")
    if returncode in (126, 127) or find("not found", "Not found"):
        return NoRemotePython(
            f"{host}: the helper could not be started there: {tail or 'the shell said nothing'}; give the path of a Python 3.6 or "
            "newer with the contact's option python=/path/to/python3"
        )
    if returncode == 255:
        return HostUnreachable(f"{host}: ssh could not connect: {tail or 'it says nothing; see what LogLevel is set to'}")
    ended = "ended by itself" if returncode is None else f"ended with {returncode}"
    wrote = f"; it wrote {_shown(noise)}" if noise.strip() else ""
    says = f"; it said: {tail}" if tail else ""
    return LoginShellFailed(
        f"{host}: the login shell {ended} before the command ran{wrote}{says}; look at the shell's start-up files there"
    )


def _bare(host: str) -> str:
    return host.removeprefix("ssh://")


def _shown(noise: bytes) -> str:
    return "'" + printable(noise[-300:].decode("utf-8", "surrogateescape").strip()) + "'"


def _denied(host: str, line: str) -> TransportError:
    methods = re.search(r"Permission denied \(([^)]*)\)", line)
    offered = [method.strip() for method in methods[1].split(",")] if methods else []
    if any(method in _INTERACTIVE for method in offered):
        return SecondFactorNeeded(
            f"{host}: it asks for a password or a code ({', '.join(offered)}), and nobody could be asked, or the answer was wrong. "
            "Run this in a terminal; or set SSH_ASKPASS and SSH_ASKPASS_REQUIRE=force; or give the contact the option share=10m, "
            "which keeps one login for several programs"
        )
    return AuthenticationFailed(
        f"{host}: it refuses the login ({', '.join(offered) or printable(line)}); look whether 'ssh {_bare(host)}' works: the key "
        "may not be loaded (ssh-add -l), not be known there, or the user name be another"
    )


def _changed(stderr: str) -> str:
    fingerprint = re.search(r"(SHA256:\S+|MD5:\S+)", stderr)
    offending = re.search(r"Offending .*key in (\S+:\d+)", stderr)
    remedy = re.search(r"ssh-keygen -f .*", stderr)
    text = "its host key has changed: it was set up anew, or it is another host that pretends to be it. "
    if fingerprint:
        text += f"It now shows {printable(fingerprint[1])}. "
    if offending:
        text += f"Another is known in {printable(offending[1])}. "
    text += "Ask the site which is right"
    if remedy:
        text += f"; if the new one is, run: {printable(remedy[0].strip())}"
    return text
