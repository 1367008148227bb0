"""A watch over folders of a login host: the helper there looks, and tells. It goes on over each new connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from ..errors import TransportError
from .base import Appeared, TransportClosed, absolute, path_error
from .openssh_errors import LinkLost
from .openssh_link import Link, Pending, Refusal

if TYPE_CHECKING:
    from .openssh import OpenSSHTransport

__all__ = ["OpenSSHWatch"]


class OpenSSHWatch:
    """Watch of jobyard.transports.base. While the host cannot be reached ``wait`` tells nothing, and raises nothing: the
    connection is made again in the background, and what came meanwhile is told then.
    """

    def __init__(self, transport: OpenSSHTransport, prefix: str, look_every_s: float) -> None:
        self._transport = transport
        self._arguments = {"prefix": prefix, "look_every_s": look_every_s}
        self._changed = threading.Condition()
        self._opening = threading.Lock()
        self._folders: dict[str, None] = {}
        self._found: list[Appeared] = []
        self._woken = False
        self._closed = False
        self._waiting = False
        self._open: Pending | None = None
        transport.connection.resumes(self)

    # From the connection

    @property
    def wanted(self) -> bool:
        """Whether a connection should be made for it."""
        return bool(self._folders) and not self._closed

    def resume(self, link: Link) -> None:
        """Go on over a new connection; all that is in the folders is told once more."""
        if not self._folders:
            return
        with self._opening:
            try:
                pending = self._opened(link)
                link.send("watch_add", {"watch": pending.request, "folders": list(self._folders)}).answer()
            except Refusal as refusal:  # one is gone: the others are added one by one
                if refusal.kind == "os":
                    self._add_each(link)
            except LinkLost:
                return

    def _add_each(self, link: Link) -> None:
        for folder in list(self._folders):
            with contextlib.suppress(Refusal):
                link.send("watch_add", {"watch": self._opened(link).request, "folders": [folder]}).answer()

    def _opened(self, link: Link) -> Pending:
        """The helper's watch on that link."""
        if self._open is None or self._open.link is not link:
            begun = threading.Event()

            def told(value: Any) -> None:
                begun.set()
                self._take(value)

            self._open = pending = link.send("watch", self._arguments, on_event=told)
            while not begun.wait(0.05):
                if pending.done.is_set():
                    pending.answer()
                    raise LinkLost(f"{link.name}: the watch ended before it began")
        return self._open

    def _take(self, value: Any) -> None:
        from .openssh import _here

        told = [Appeared(_here(folder), _here(name)) for folder, name in value]
        with self._changed:
            self._found += [one for one in told if one.folder in self._folders]
            if self._found:
                self._changed.notify_all()

    # From whoever watches

    def add(self, folders: Iterable[str]) -> None:
        from .openssh import _here, _text

        wanted = [_text(absolute(self._transport.name, folder)) for folder in folders]
        with self._changed:
            self._check_open()
        if not wanted:
            return
        link = self._transport.link()
        fresh = [folder for folder in wanted if folder not in self._folders]
        try:
            with self._opening:
                pending = self._opened(link)
                with self._changed:
                    self._folders.update(dict.fromkeys(fresh))  # before: what is there already is told at once
                link.send("watch_add", {"watch": pending.request, "folders": wanted}).answer()
        except Refusal as refusal:
            path = str(refusal.details.get("path") or wanted[0])
            with self._changed:
                at = fresh.index(path) if path in fresh else 0
                for folder in fresh[at:]:
                    self._folders.pop(folder, None)
            if refusal.kind == "closed":
                raise self._was_closed() from None
            if refusal.kind == "os":
                raise path_error(self._transport.name, "watch", _here(path), refusal.os_error()) from None
            raise self._transport.other_refusal(refusal) from None
        except TransportError:
            with self._changed:
                for folder in fresh:
                    self._folders.pop(folder, None)
            raise

    def add_later(self, folders: Iterable[str]) -> None:
        """As ``add``; where there is no connection now they are watched, and looked into, as soon as there is one."""
        from .openssh import _text

        wanted = [_text(absolute(self._transport.name, folder)) for folder in folders]
        try:
            self._transport.link(background=True)
        except LinkLost:
            with self._changed:
                self._check_open()
                self._folders.update(dict.fromkeys(wanted))
            return
        self.add(wanted)

    def discard(self, folders: Iterable[str]) -> None:
        from .openssh import _text

        gone = [_text(folder) for folder in folders]
        with self._changed:
            if self._closed:
                return
            known = [folder for folder in gone if folder in self._folders]
            for folder in known:
                del self._folders[folder]
            self._found = [one for one in self._found if one.folder in self._folders]
            pending = self._open
        if known and pending is not None and pending.link.alive:
            with contextlib.suppress(TransportError):  # the watch went with its link
                pending.link.send("watch_discard", {"watch": pending.request, "folders": known}).answer()

    def wait(self, timeout_s: float | None) -> Sequence[Appeared]:
        with self._changed:
            self._check_open()
            if self._waiting:
                raise RuntimeError("another thread waits on this watch; wait is for one thread at a time")
            self._waiting = True
            try:
                self._changed.wait_for(lambda: self._found or self._woken or self._closed, timeout_s)
                self._check_open()
                self._woken = False
                found, self._found = self._found, []
                return found
            finally:
                self._waiting = False

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._folders.clear()
            self._changed.notify_all()
            pending = self._open
        self._transport.connection.no_longer(self)
        if pending is not None and pending.link.alive:
            pending.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> TransportClosed:
        return TransportClosed(f"{self._transport.name}: this watch was closed; open another")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
