"""``Run``: what is known of one execution of a task."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from .exceptions import InvalidType, InvalidValue
from .quantity import Duration, Memory
from .utils import History, Struct

__all__ = ["Names", "Run", "Signals"]

FORMAT = 1  # of to_data
_QUANTITIES: dict[str, type[Duration] | type[Memory]] = {"duration": Duration, "used_cpu_time": Duration, "max_used_memory": Memory}


class Names(frozenset[str]):
    """A set of words, each an attribute of that name: ``Run.State.NEW == "NEW"``."""

    def __new__(cls, **words: str) -> Names:
        made = super().__new__(cls, words.values())
        made.__dict__.update(words)
        return made

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"there is no {name!r}; there are: {', '.join(sorted(self.__dict__))}")


class Signals(enum.IntEnum):
    """Pseudo-signals: why a task has no ending of its own. Real signals are below 65."""

    Lost = 120  # nothing can be known of it any more
    Cancelled = 121
    RemoteKill = 122  # ended by the scheduler: walltime, memory, preempted
    DataStagingFailure = 123
    RemoteError = 124  # the node failed, or the program could not be started
    SubmissionFailed = 125

    @property
    def description(self) -> str:
        """In words."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Signals.Lost: "nothing is known of the job any more",
    Signals.Cancelled: "the job was cancelled",
    Signals.RemoteKill: "the scheduler ended the job",
    Signals.DataStagingFailure: "files could not be brought to the job, or away from it",
    Signals.RemoteError: "the job could not be run where it was sent",
    Signals.SubmissionFailed: "the job was not accepted",
}
_HOOKS = {"NEW": "new", "SUBMITTED": "submitted", "RUNNING": "running", "STOPPED": "stopped", "TERMINATING": "terminating",
          "TERMINATED": "terminated", "UNKNOWN": "unknown"}  # fmt: skip


class Run(Struct):
    """The execution record of a task: ``state``, ``returncode``, ``timestamp``, ``history``, and what backends add to it
    (``lrms_jobid``, ``ssh_remote_folder``, ``duration``, ...).

    ``submission_id`` names this execution for ever: submitting the same one again after a crash finds the job of the first time.
    """

    State: ClassVar = Names(
        NEW="NEW",
        SUBMITTED="SUBMITTED",
        RUNNING="RUNNING",
        STOPPED="STOPPED",
        TERMINATING="TERMINATING",
        TERMINATED="TERMINATED",
        UNKNOWN="UNKNOWN",
    )
    Arch: ClassVar = Names(X86_64="x86_64", X86_32="i686")
    Signals: ClassVar = Signals

    _ref: Any  # the task, whose hooks are called
    _restored: bool  # made by an earlier process: the journal may know more of it than it does itself
    _state: str
    _signal: int | None
    _exitcode: int | None

    def __init__(self, initializer: Mapping[str, Any] | None = None, attach: Any = None, **extra: Any) -> None:
        self.__dict__["_ref"] = attach
        self.__dict__["_restored"] = False
        self.__dict__["_state"] = "NEW"
        self.__dict__["_exitcode"] = None
        self.__dict__["_signal"] = None
        self.timestamp: dict[str, float] = {"NEW": time.time()}
        self.history = History()
        self.submission_id = os.urandom(16).hex()
        super().__init__(initializer, **extra)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_restored"] = True

    def __repr__(self) -> str:
        return f"<gc3libs.Run {self.get('lrms_jobid', 'not submitted')} {self._state}>"

    # State

    @property
    def state(self) -> str:
        """One of ``Run.State``. Setting it dates it, notes it, and calls the task's hook of that name in lower case."""
        return self._state

    @state.setter
    def state(self, value: str) -> None:
        if value not in Run.State:
            raise InvalidValue(f"{value!r} is no state of a task; there are: {', '.join(sorted(Run.State))}")
        if value == self._state:
            return
        self.__dict__["_state"] = value
        self.timestamp[value] = time.time()
        self.history.append(f"state changed to {value}")
        if self._ref is not None:
            self._ref.changed = True
            getattr(self._ref, _HOOKS[value])()

    def passed(self, times: Mapping[str, float]) -> None:
        """Date states that were passed unseen, in seconds since the epoch; what was seen stays, all in the order of a life."""
        known = {**times, **self.timestamp}
        self.timestamp = {name: known[name] for name in _HOOKS if name in known}

    def in_state(self, *names: str) -> bool:
        """Whether the state is one of these."""
        return self._state in names

    @property
    def info(self) -> str:
        """The last note of the history; setting it adds one."""
        return self.history.last()

    @info.setter
    def info(self, text: str) -> None:
        self.history.append(text)

    # How it ended

    @property
    def returncode(self) -> int | None:
        """``exitcode << 8 | signal``, as ``os.wait`` has it; None before the end. Set it to that, or to (signal, exitcode)."""
        if self._exitcode is None and self._signal is None:
            return None
        return (int(self._exitcode or 0) & 0xFF) << 8 | (int(self._signal or 0) & 0x7F)

    @returncode.setter
    def returncode(self, value: int | tuple[int, int] | None) -> None:
        if value is None:
            signal = exitcode = None
        elif isinstance(value, tuple) and len(value) == 2:
            signal, exitcode = int(value[0]) & 0x7F, int(value[1]) & 0xFF
        elif isinstance(value, int) and not isinstance(value, bool):
            signal, exitcode = value & 0x7F, value >> 8 & 0xFF
        else:
            raise InvalidType(f"a return code is a number or a pair of signal and exit code, not {value!r}")
        self.__dict__["_signal"], self.__dict__["_exitcode"] = signal, exitcode

    @property
    def exitcode(self) -> int | None:
        """The program's exit code; 255 where a signal ended it; None before the end."""
        return None if self._exitcode is None else int(self._exitcode)

    @exitcode.setter
    def exitcode(self, value: int | None) -> None:
        self.__dict__["_exitcode"] = None if value is None else int(value) & 0xFF

    @property
    def signal(self) -> int | None:
        """The signal, or pseudo-signal (``Run.Signals``), that ended it; 0 where none did; None before the end."""
        return None if self._signal is None else int(self._signal)

    @signal.setter
    def signal(self, value: int | None) -> None:
        self.__dict__["_signal"] = None if value is None else int(value) & 0x7F

    @property
    def core_dumped(self) -> bool | None:
        """Whether it left a core dump; None where that is not known. The return code has no place for it."""
        found = self.get("_core")
        return None if found is None else bool(found)

    @staticmethod
    def shellexit_to_returncode(rc: int) -> tuple[int, int]:
        """(signal, exit code) for what a shell shows: 128+n for signal n."""
        rc &= 0xFF
        return (rc - 128, -1) if rc > 128 else (0, rc)

    # Kept

    def to_data(self) -> dict[str, Any]:
        """All of it as values that ``json.dumps`` writes; ``from_data`` takes them. Attributes of other types are left out."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "state": self.state,
            "signal": self.signal,
            "exitcode": self.exitcode,
            "history": [[text, at, list(tags)] for text, at, tags in self.history],
        }
        for name, value in self.items():
            if isinstance(value, Duration):
                data[name] = f"{value.amount('s', float)!r}s"
            elif isinstance(value, Memory):
                data[name] = f"{value.amount('B', int)}B"
            elif name != "history" and _plain(value):
                data[name] = value
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Run:
        """The record that ``to_data`` told. InvalidValue: of a format that this release does not know."""
        if data.get("format") != FORMAT:
            raise InvalidValue(f"the record has format {data.get('format')!r}; this release reads {FORMAT}")
        made = cls()
        for name, value in data.items():
            if name == "state" and value in Run.State:
                made.__dict__["_state"] = value
            elif name == "history":
                made.history = History((str(text), float(at), tuple(tags)) for text, at, tags in value)
            elif name in _QUANTITIES and isinstance(value, str):
                made[name] = _QUANTITIES[name](value)
            elif name != "format":
                made[name] = value
        made.__dict__["_restored"] = True
        return made


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
