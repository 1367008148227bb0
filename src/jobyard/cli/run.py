"""``jobyard run``: a job as if it were a command of the shell's."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .app import INTERRUPTED, complain
from .options import common, job_options

if TYPE_CHECKING:
    from ..job import Ending
    from ..session import Job

__all__ = ["command"]


@click.command("run", context_settings={"allow_interspersed_args": False})
@job_options
@common
def command(contact: str | None, words: tuple[str, ...], **values: Any) -> int:
    """Run a command as a job, show its output as it comes, and end as it does.

    CMD and its arguments are passed on as they are; no shell reads them. Ctrl-C cancels the job; once more, and jobyard goes
    without waiting for that. The job is cancelled, too, where nobody reads its output any more. The exit status is the job's
    own, 128+N where signal N ended it, 130 where it was cancelled, and 1, with the reason, where it was cut short or could not
    run.
    """
    from .endings import exit_status
    from .jobs import open_session, shown_id
    from .sending import submission

    with _interrupts() as interrupts, open_session(contact) as session:
        job = session.submit(words, **submission(session, contact, values))
        try:
            ending = _follow(job, interrupts)
        except KeyboardInterrupt:
            return complain(f"job {shown_id(job)} was told to end, and may not have yet", INTERRUPTED)
        except BrokenPipeError:  # whoever read its output has enough: a command of the shell's would end of that
            job.cancel()
            raise
        except OSError as error:
            said = f"job {shown_id(job)} goes on, but its output cannot be shown: {error.strerror or error}"
            return complain(f"{said}; see 'jobyard logs {shown_id(job)}'", 1)
        job.reap()
        status, needs_saying = exit_status(ending)
        return complain(f"job {shown_id(job)} {ending}", status) if needs_saying else status


class _Interrupts:
    """Counts Ctrl-C: the first cancels the job, once it is known; the second leaves."""

    def __init__(self) -> None:
        self.count = 0

    def arrived(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    # Not KeyboardInterrupt at once: raised within the submission, it could leave a job that nobody cancels.
    interrupts = _Interrupts()
    before = signal.signal(signal.SIGINT, interrupts.arrived)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(job: Job, interrupts: _Interrupts) -> Ending:
    """Show what the job writes until it has ended."""
    from .follow import Pace, Streams

    description, line = job.description, _Line(job)
    streams = Streams(job, out=description.stdout is None, err=description.stderr is None, before=line.clear)
    pace, cancelled = Pace(), False
    try:
        while True:
            if interrupts.count and not cancelled:
                cancelled = True
                job.cancel()
            anything = streams.copy()
            line.show()
            try:
                ending = job.wait(pace.next(anything))
            except TimeoutError:
                continue
            streams.copy()
            return ending
    finally:
        line.clear()
        streams.close()


class _Line:
    """What a job waits for, on one line of the terminal that is drawn again and again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._began_at = time.monotonic()
        self._active = sys.stderr.isatty()
        self._drawn = False

    def show(self) -> None:
        """Draw it while the job waits."""
        from ..units import format_duration
        from .jobs import shown_id
        from .output import plain

        waited_s = time.monotonic() - self._began_at
        if not self._active or waited_s < 0.3:
            return
        state = self._job.state
        if not state.waiting:
            self._active = False
            return
        reason = self._job.reason
        text = f"job {shown_id(self._job)} {state}, {format_duration(waited_s)}{f': {reason}' if reason else ''}"
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{plain(text)[:width]}")
        sys.stderr.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take it away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False
