"""``LRMS``: what every backend is, whatever it speaks to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._run import Run
from ..exceptions import InvalidType, InvalidValue
from ..quantity import Duration, Memory
from ..utils import Struct

__all__ = ["LRMS"]


class LRMS(Struct):
    """A local resource management system: its name, what it has, and how it is logged in to.

    ``architecture``: a set of ``Run.Arch``, or text with commas between them. ``auth``: a function without arguments, called
    when it is needed, or what it would return, or None. Further keywords become attributes.
    """

    def __init__(
        self,
        name: str,
        architecture: Any,
        max_cores: Any,
        max_cores_per_job: Any,
        max_memory_per_core: Any,
        max_walltime: Any,
        auth: Any = None,
        **extra_args: Any,
    ) -> None:
        self.name = str(name)
        self.architecture = _architectures(architecture)
        self.max_cores = _count("max_cores", max_cores)
        self.max_cores_per_job = _count("max_cores_per_job", max_cores_per_job)
        self.max_memory_per_core = _quantity(Memory, "max_memory_per_core", max_memory_per_core)
        self.max_walltime = _quantity(Duration, "max_walltime", max_walltime)
        self._auth = auth
        self.enabled = True
        self.free_slots = -1  # not known
        self.user_run = 0
        self.user_queued = 0
        self.queued = 0
        self.updated = False
        super().__init__(extra_args)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _login(self) -> Any:
        """What ``auth`` says."""
        return self._auth() if callable(self._auth) else self._auth

    def why_not(self, app: Any) -> str | None:
        """Why it cannot run this application; None where it can."""
        if app.requested_cores > self.max_cores_per_job:
            return f"it has at most {self.max_cores_per_job} cores for a job, not {app.requested_cores}"
        if app.requested_memory is not None and app.requested_memory > self.max_memory_per_core * app.requested_cores:
            return f"it has {self.max_memory_per_core} for each of {app.requested_cores} cores, not {app.requested_memory} in all"
        if app.requested_walltime is not None and app.requested_walltime > self.max_walltime:
            return f"jobs run for at most {self.max_walltime}, not {app.requested_walltime}"
        if app.requested_architecture is not None and app.requested_architecture not in self.architecture:
            return f"it has {', '.join(sorted(self.architecture))}, not {app.requested_architecture}"
        return None


def _architectures(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, Iterable):
        raise InvalidType(f"architecture is a set of {', '.join(sorted(Run.Arch))}, not {value!r}")
    names = {"x86_64": "x86_64", "64-bit": "x86_64", "64 bit": "x86_64", "i686": "i686", "32-bit": "i686", "32 bit": "i686"}
    found = frozenset(names.get(str(one).lower(), "") for one in value)
    if not found or "" in found:
        raise InvalidType(f"architecture holds one or more of {', '.join(sorted(Run.Arch))}, not {value!r}")
    return found


def _count(what: str, value: Any) -> int:
    try:
        found = int(value)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"{what} is a whole number, not {value!r}") from error
    if found < 1:
        raise InvalidValue(f"{what} is 1 or more, not {value!r}")
    return found


def _quantity(kind: Any, what: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise InvalidType(
            f"{what} is a gc3libs.quantity.{kind.__name__}, such as {kind.__name__}('{_EXAMPLES[kind]}'), not {value!r}"
        )
    return value


_EXAMPLES: dict[Any, str] = {Memory: "4 GB", Duration: "8 hours"}
