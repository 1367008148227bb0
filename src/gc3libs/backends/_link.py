"""A resource's session with the engine: one for each resource of a user, found again by whatever process comes next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobyard
from jobyard import fronts

from .. import exceptions
from .._run import Run
from ._dialect import TAG

__all__ = ["Link", "contact_name"]

_ID = f"{TAG}.id"
SETTLED_S = 150.0  # another host's process is called gone after 120 s without a sign


def contact_name(name: str, *parts: str) -> str:
    """The name of a resource's scheduler in contacts: what of its name a contact can hold, and a hash that tells it from others."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "resource"
    digest = hashlib.sha256("\0".join((name, *parts)).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"gc3-{readable}-{digest}"


class Link:
    """An open session, and the jobs of tasks in it."""

    def __init__(self, key: str, contact: fronts.Contact, scheduler: Callable[[], Any], work_dir: str | None) -> None:
        self._scheduler = scheduler
        self._work_dir = work_dir
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # tokens by submission id, of those that were read
        self._seen: set[jobyard.Job] = set()
        self._others: dict[str, jobyard.Session] = {}
        self._followed: set[jobyard.Session] = set()
        path = fronts.state_dir() / "gc3" / key
        self.session = self._opened(contact, path)

    def _opened(self, parsed: fronts.Contact, path: Path) -> jobyard.Session:
        with contextlib.suppress(FileNotFoundError, jobyard.InvalidContact):  # it was removed with its state, or is damaged
            return self._open(parsed.with_session(path.read_text(encoding="ascii", errors="replace").strip()))
        session = self._open(parsed)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = str(fronts.Contact.parse(session.contact).session)
        if _first(path, made) != made:
            session.close()
            return self._open(parsed.with_session(_first(path, made)))
        return session

    def _open(self, contact: fronts.Contact) -> jobyard.Session:
        return jobyard.Session(contact, scheduler=self._scheduler(), work_dir=self._work_dir)

    def close(self) -> None:
        """Let go of the sessions. Jobs go on."""
        with self._lock:
            others, self._others = list(self._others.values()), {}
        for session in (self.session, *others):
            session.close()

    def submit(self, description: jobyard.JobDescription, submission_id: str) -> jobyard.Job:
        """Submit one job; its directory is ``work`` in its folder."""
        self._follow(self.session)
        job = fronts.submit_in_own_folder(self.session, description)
        with self._lock:
            self._known[submission_id] = job.token
        return job

    def job(self, record: Run) -> jobyard.Job:
        """The job of a task. InvalidArgument: it was not submitted. UnknownJob: nothing is known of it any more."""
        token = record.get("jobyard_token")
        if not isinstance(token, str):
            raise exceptions.InvalidArgument(f"{record!r} has not been submitted to this resource")
        try:
            job, session = self.session.job(token), self.session
        except jobyard.UnknownJob:
            other = self._other(record.get("jobyard_session"))
            if other is None:
                raise
            job, session = other.job(token), other
        self._follow(session)
        return job

    def _follow(self, session: jobyard.Session) -> None:
        """Receipts are seen as they come, whatever the scheduler answers."""
        with self._lock:
            if session in self._followed:
                return
            self._followed.add(session)
        session.watch(_nothing, [])

    def _other(self, contact: Any) -> jobyard.Session | None:
        """The session that a task was submitted in, where it is not this one."""
        if not isinstance(contact, str) or contact == self.session.contact:
            return None
        with self._lock:
            session = self._others.get(contact)
            if session is None:
                try:
                    session = self._others[contact] = self._open(fronts.Contact.parse(contact))
                except jobyard.InvalidContact:
                    return None
            return session

    def submitted(self, submission_id: str) -> jobyard.Job | None:
        """The job that an earlier process, or call, submitted under this id, whether or not it lived to know of it. What a crash
        cut short is waited for until it is settled.

        SchedulerUnavailable: it cannot be settled now.
        """
        deadline_s = time.monotonic() + SETTLED_S
        while True:
            cut_short = any(one.tags.get(_ID) == submission_id for one in fronts.intended(self.session))
            token = self._token(submission_id)
            if token is not None:
                try:
                    return self.session.job(token)
                except jobyard.UnknownJob:
                    return None  # it was freed
            if not cut_short:
                return None
            if time.monotonic() > deadline_s:
                raise jobyard.SchedulerUnavailable("it is not known yet whether an earlier process submitted it; try again later")
            self._follow(self.session)
            time.sleep(0.05)  # the tracker settles it, and tells nobody of what was undone

    def _token(self, submission_id: str) -> str | None:
        with self._lock:
            if submission_id not in self._known:
                for job in self.session.jobs():
                    if job in self._seen:
                        continue
                    self._seen.add(job)
                    with contextlib.suppress(jobyard.UnknownJob):
                        known = job.description.tags.get(_ID)
                        if known is not None:
                            self._known[known] = job.token
            return self._known.get(submission_id)


def _nothing(job: jobyard.Job, transition: object) -> None:
    """Told of every transition, does nothing."""


def _first(path: Path, text: str) -> str:
    """What the file holds; ``text``, where this call is the first to write it."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        return path.read_text(encoding="ascii", errors="replace").strip()
    finally:
        os.unlink(temporary)
