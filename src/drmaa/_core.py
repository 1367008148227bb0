"""One DRMAA session's life: initialised, used by any number of threads, left; carried over a fork.

The engine is imported when a session begins, not before.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import _values
from .errors import (
    AlreadyActiveSessionException,
    DefaultContactStringException,
    DrmsExitException,
    DrmsInitException,
    InvalidContactStringException,
    NoActiveSessionException,
    UnsupportedAttributeException,
    coded,
)
from .helpers import MANDATORY, OPTIONAL

if TYPE_CHECKING:
    from ._bound import Bound
    from ._info import JobInfo
    from ._template import JobTemplate


class SessionCore:
    """The operations behind ``drmaa.Session``. One for the process, and one for each independent session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)  # told when the last short call of a session that is left is over
        self._bound: Bound | None = None
        self._pid = 0

    # Life -----------------------------------------------------------------------------------------------------------------

    def initialize(self, contact: Any = None) -> None:
        """Begin, or take up again the session that the contact names. Raises as ``drmaa.Session.initialize`` says."""
        text = "" if contact is None else _values.plain_text(contact, "a contact string")
        self._mind_fork()
        with self._lock:
            if self._bound is not None and self._bound.pid == os.getpid():
                raise coded(AlreadyActiveSessionException, "Initialization failed due to existing DRMAA session.")
            self._bound = _open(text)

    def exit(self) -> None:
        """Leave. Jobs go on; short calls of other threads finish first, those that wait are woken."""
        from jobyard import JobyardError

        self._mind_fork()
        with self._lock:
            bound = self._require()
            self._bound = None
            while bound.busy:
                self._left.wait()
            bound.left.set()
        try:
            bound.close()
        except JobyardError as error:
            raise coded(DrmsExitException, error) from error

    def require_active(self) -> None:
        """NoActiveSession (5) where there is none."""
        self._mind_fork()
        with self._lock:
            self._require()

    def _require(self) -> Bound:
        if self._bound is None:
            raise coded(NoActiveSessionException, "No active session")
        if self._bound.pid != os.getpid():  # a forked child: the connection is its parent's
            self._bound = self._bound.reopened()
        return self._bound

    def _mind_fork(self) -> None:
        """In a forked child another thread of the parent may have held the locks for ever."""
        pid = os.getpid()
        if self._pid != pid:
            if self._pid:
                self._lock = threading.Lock()
                self._left = threading.Condition(self._lock)
            self._pid = pid

    @contextmanager
    def _using(self) -> Iterator[Bound]:
        """The active session, which ``exit`` leaves only once this is over; its errors in DRMAA's words."""
        self._mind_fork()
        with self._lock:
            bound = self._require()
            bound.busy += 1
        try:
            with bound.translated():
                yield bound
        finally:
            with self._lock:
                bound.busy -= 1
                if not bound.busy:
                    self._left.notify_all()

    def _waiting(self) -> Bound:
        """The active session, for calls that ``exit`` wakes."""
        self._mind_fork()
        with self._lock:
            return self._require()

    # What it is -------------------------------------------------------------------------------------------------------------

    def contact(self) -> str:
        """The session's contact; without a session all contacts that there are, separated by commas."""
        bound = self._peek()
        return ",".join(_here()) if bound is None else bound.contact

    def drms_info(self) -> str:
        """The scheduler and its version; without a session the schedulers that there are, separated by commas."""
        bound = self._peek()
        if bound is not None:
            return bound.drms_info()
        from ._vendors import vendor_of

        return ",".join(vendor_of(name).prefix for name in _here())

    def implementation(self) -> str:
        """As ``drms_info``, with jobyard's release behind it."""
        bound = self._peek()
        if bound is not None:
            return bound.implementation()
        from ._vendors import implementation_of

        return ",".join(implementation_of(name) for name in _here())

    def _peek(self) -> Bound | None:
        self._mind_fork()
        with self._lock:
            return None if self._bound is None else self._require()

    def attribute_names(self) -> list[str]:
        """C names of the scalar attributes that the session's scheduler supports."""
        with self._using() as bound:
            return [name.decode() for name in (*MANDATORY, *OPTIONAL) if bound.supports(name)]

    def require_supported(self, name: bytes, attribute: str) -> None:
        """UnsupportedAttribute (4) where the session's scheduler cannot honour the optional attribute of that C name."""
        with self._using() as bound:
            if not bound.supports(name):
                raise coded(UnsupportedAttributeException, f"{attribute}: {bound.drms_info()} cannot honour it; see attributeNames")

    # Templates ------------------------------------------------------------------------------------------------------------

    def create_template(self) -> JobTemplate:
        """An empty template of this session."""
        from ._template import JobTemplate

        self.require_active()
        return JobTemplate._of(self)

    def delete_template(self, template: Any) -> None:
        """Let go of it. InvalidJobTemplate for what is none, or was deleted."""
        self.require_active()
        _template_values(template)
        template.delete()

    # Jobs -------------------------------------------------------------------------------------------------------------------

    def run_job(self, template: Any) -> str:
        """The id of the job."""
        with self._using() as bound:
            return bound.run_job(_template_values(template))

    def run_bulk_jobs(self, template: Any, begin: Any, end: Any, step: Any) -> list[str]:
        """The ids of the tasks, in the order of their indices."""
        with self._using() as bound:
            values = _template_values(template)
            return bound.run_bulk_jobs(values, _values.bulk_range(begin, end, step))

    def control(self, job_id: Any, action: str) -> None:
        """Do it to the job, to all tasks of an array, or to all unfinished jobs of the session."""
        with self._using() as bound:
            bound.control(_values.job_id(job_id), action)

    def job_status(self, job_id: Any) -> str:
        """The state."""
        with self._using() as bound:
            return bound.job_status(_values.job_id(job_id))

    def synchronize(self, job_ids: Any, timeout: Any, dispose: Any) -> None:
        """Wait until all have ended; reap them if ``dispose``."""
        bound = self._waiting()
        seconds = _values.timeout_s(timeout)
        with bound.translated(waiting=True):
            bound.synchronize(_values.job_ids(job_ids), seconds, bool(dispose))

    def wait(self, job_id: Any, timeout: Any) -> JobInfo:
        """Wait until the job, or any, has ended; reap it."""
        bound = self._waiting()
        text = _values.job_id(job_id)
        seconds = _values.timeout_s(timeout)
        with bound.translated(waiting=True):
            return bound.wait(text, seconds)


def _close_engine() -> None:
    """Sessions that are left open at the end of the program, where the engine was loaded."""
    fronts = sys.modules.get("jobyard.fronts")
    if fronts is not None:
        fronts.close_all_sessions()


atexit.register(_close_engine)  # now: what programs register for their end, after this import, finds its session open


def _open(contact: str) -> Bound:
    from jobyard import JobyardError
    from jobyard.fronts import closed_at_exit_by_front

    from ._bound import Bound
    from ._faults import translate

    closed_at_exit_by_front()
    try:
        return Bound(contact or None)
    except OSError as error:
        raise coded(DrmsInitException, error) from error
    except JobyardError as error:
        ours = translate(error)
        if not contact and type(ours) is InvalidContactStringException:
            ours = coded(DefaultContactStringException, error)
        raise ours from error


def _here() -> list[str]:
    """Contacts of the schedulers on this machine."""
    from jobyard.fronts import schedulers_found

    return [*schedulers_found(), "local"]


def _template_values(template: Any) -> dict[bytes, Any]:
    """What the template says now: a copy. InvalidJobTemplate for what is none, or was deleted."""
    from ._template import JobTemplate
    from .errors import InvalidJobTemplateException

    if not isinstance(template, JobTemplate):
        raise coded(InvalidJobTemplateException, f"{template!r} is not a job template; make one by Session.createJobTemplate()")
    template._alive()
    return dict(template._values)
