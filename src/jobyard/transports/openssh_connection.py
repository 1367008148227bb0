"""The connection to a login: one for all transports of a process with equal settings, made when it is first needed, and made
again when it ended. While somebody watches folders it is made again in the background, at growing intervals.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import threading
import time
import weakref
from typing import Protocol

import msgspec

from ..errors import TransportError
from .base import TransportClosed
from .openssh_errors import LinkLost, SecondFactorNeeded
from .openssh_link import Link
from .openssh_start import Settings

__all__ = ["Connection", "Resumes", "connection"]

FIRST_RETRY_S = 1.0  # after a failure; doubled with each
LONGEST_RETRY_S = 60.0
JITTER = 0.25  # of each interval, at most added to it
ANEW_S = 1.0  # how old a failure may be that is told again in place of another try


class Resumes(Protocol):
    """What goes on over a new link (a watch)."""

    def resume(self, link: Link) -> None:
        """A link is there again. TransportError: it is gone already."""

    @property
    def wanted(self) -> bool:
        """Whether a link should be made for it."""


class Connection:
    """Links to one login, one at a time. Every method may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.links_made = 0  # how many links there were; for tests and figures
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._connecting = False
        self._failed: tuple[float, TransportError] | None = None
        self._failures = 0
        self._users = 0
        self._closed = False
        self._reconnecting = False
        self._resuming: weakref.WeakSet[Resumes] = weakref.WeakSet()

    # Users

    @property
    def closed(self) -> bool:
        """Its last user left."""
        return self._closed

    def join(self) -> None:
        """One more transport uses it."""
        with self._changed:
            self._users += 1

    def leave(self) -> None:
        """One fewer; with the last the link is closed."""
        with self._changed:
            self._users -= 1
            if self._users > 0:
                return
            self._closed = True
            link, self._link = self._link, None
            self._changed.notify_all()
        _register.forget(self)
        if link is not None:
            link.close()

    def resumes(self, what: Resumes) -> None:
        """Go on with it over each new link."""
        self._resuming.add(what)

    def no_longer(self, what: Resumes) -> None:
        """Do not."""
        self._resuming.discard(what)

    # Links

    def link(self, *, background: bool = False) -> Link:
        """A link that lives, made now where there is none. TransportError: it cannot be made now.

        ``background``: only one that is there already; where there is none, it is made while the caller does other things.
        """
        with self._changed:
            if background and not (self._link is not None and self._link.alive) and not self._closed:
                self._make_in_background()
                raise LinkLost(f"{self.name}: there is no connection now" + (f": {self._failed[1]}" if self._failed else ""))
        return self._made(retry=False)

    def _make_in_background(self) -> None:
        if not self._reconnecting:
            self._reconnecting = True
            threading.Thread(target=self._reconnect, name="jobyard-ssh-reconnect", daemon=True).start()

    def _made(self, *, retry: bool) -> Link:
        with self._changed:
            while True:
                if self._closed:
                    raise TransportClosed(f"{self.name}: the connection was closed")
                if self._link is not None and self._link.alive:
                    return self._link
                if not self._connecting:
                    break
                self._changed.wait()
            self._refuse_too_soon(retry)
            self._connecting = True
        try:
            link = self._connect(ask=self.links_made == 0 or (not retry and _may_ask(self._failed)))
        except TransportError as error:
            with self._changed:
                self._failed = (time.monotonic(), error)
                self._failures += 1
            raise
        else:
            with self._changed:
                self._link, self._failed, self._failures = link, None, 0
                self.links_made += 1
        finally:
            with self._changed:
                self._connecting = False
                self._changed.notify_all()
        if self.closed:
            link.close()
            raise TransportClosed(f"{self.name}: the connection was closed")
        for one in list(self._resuming):
            one.resume(link)
        return link

    def _refuse_too_soon(self, retry: bool) -> None:
        if self._failed is None:
            return
        at, error = self._failed
        wait_s = min(FIRST_RETRY_S * 2 ** min(self._failures - 1, 10), LONGEST_RETRY_S) if retry else ANEW_S
        if time.monotonic() - at < wait_s:
            raise _again(error)

    def _connect(self, *, ask: bool) -> Link:
        if self.settings.ignore_host_keys:
            _warn(self.name)
        share = _share_path(self.settings)
        return Link(self.settings, ask=ask, lost=self._lost, share_path=share, stop=lambda: self._closed)

    def _lost(self, link: Link) -> None:
        with self._changed:
            if self._link is link:
                self._link = None
            self._changed.notify_all()
            if not self._closed and any(one.wanted for one in list(self._resuming)):
                self._make_in_background()

    def _reconnect(self) -> None:
        """Until there is a link, or nobody wants one."""
        try:
            while True:
                try:
                    self._made(retry=True)
                    return
                except TransportClosed:
                    return
                except TransportError as error:
                    if not error.retryable:  # a person has to do something; the next call tries again, and resumes
                        return
                with self._changed:
                    wait_s = min(FIRST_RETRY_S * 2 ** min(max(self._failures - 1, 0), 10), LONGEST_RETRY_S)
                    wait_s += 0.01 + wait_s * JITTER * random.random()  # many programs saw the host go at the same moment
                    self._changed.wait_for(lambda: self._closed or self._link is not None, wait_s)
                    if self._closed or not any(one.wanted for one in list(self._resuming)):
                        return
        finally:
            with self._changed:
                self._reconnecting = False

    def abort(self) -> None:
        """End the present link as if it had broken; for tests."""
        link = self._link
        if link is not None:
            link.abort(LinkLost(f"{self.name}: the connection was broken on purpose"))

    def after_fork(self) -> None:
        """In the child: everything is made anew."""
        self._changed = threading.Condition()
        self._link, self._connecting, self._reconnecting = None, False, False
        self._failed, self._failures = None, 0
        self._resuming = weakref.WeakSet()


def _again(error: TransportError) -> TransportError:
    """The same error once more, with a trace of its own."""
    return type(error)(f"{error} (tried a moment ago)" if "(tried a moment ago)" not in str(error) else str(error))


def _may_ask(failed: tuple[float, TransportError] | None) -> bool:
    """A login that asked for a person asks again where the person is: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return failed is None or isinstance(failed[1], SecondFactorNeeded)


def _warn(name: str) -> None:
    import warnings

    warnings.warn(
        f"{name}: ignore_ssh_host_keys is set: whoever is between here and that host can read and change everything",
        stacklevel=2,
    )


# Sharing a login ----------------------------------------------------------------------------------------------------


def _share_path(settings: Settings) -> str | None:
    """The socket of a login that programs share; None where it is not asked for, or the user's own settings have one."""
    if settings.share_s is None:
        return None
    words = [settings.ssh, "-G"]
    if settings.config is not None:
        words += ["-F", settings.config]
    try:
        done = subprocess.run(
            [*words, "--", settings.host], capture_output=True, text=True, check=False, timeout=10, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if any(line.startswith("controlpath ") and line != "controlpath none" for line in done.stdout.splitlines()):
        return None
    for folder in filter(None, (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir())):
        path = os.path.join(folder, f"jobyard-ssh-{os.getuid()}")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.lstat(path)
        except OSError:  # a variable that outlived its folder (su, cron, containers)
            continue
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or os.path.islink(path):
            raise TransportError(f"{settings.name}: {path} is not a folder of yours alone; remove it")
        return os.path.join(path, "%C") if len(path) <= 60 else None  # the kernel's names of sockets are short
    return None


# One for each login -------------------------------------------------------------------------------------------------


class _Register:
    """The connections of this process, by their settings."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: dict[bytes, Connection] = {}

    def forget(self, gone: Connection) -> None:
        """It was closed."""
        with self.lock:
            for key, one in list(self.connections.items()):
                if one is gone:
                    del self.connections[key]

    def after_fork(self) -> None:
        """In the child: what the parent's threads held is nobody's."""
        self.lock = threading.Lock()
        for one in self.connections.values():
            one.after_fork()


_register = _Register()
os.register_at_fork(after_in_child=_register.after_fork)


def connection(settings: Settings) -> Connection:
    """The process's connection of these settings, with one more user."""
    key = msgspec.json.encode(settings)
    with _register.lock:
        found = _register.connections.get(key)
        if found is None or found.closed:
            found = _register.connections[key] = Connection(settings)
        found.join()
    return found
