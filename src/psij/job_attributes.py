"""What is said about a job besides its command and resources."""

from __future__ import annotations

import logging
import re
from datetime import timedelta

from ._fields import Field, holds, optional_text, same, wrong

__all__ = ["JobAttributes"]

logger = logging.getLogger(__name__)

_DEFAULT_DURATION = timedelta(minutes=10)
_CLOCK = re.compile(r"([0-9]+)(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")
_UNITS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([yMdhms])")
_SECONDS = {"y": 365 * 86400, "M": 30 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_NAMES = ("duration", "queue_name", "account", "reservation_id", "custom_attributes")


def _duration(label: str, value: timedelta) -> timedelta:
    if not isinstance(value, timedelta):
        raise wrong(label, "a timedelta", value)
    return value


def _attributes(label: str, value: dict[str, object] | None) -> dict[str, object] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong(label, "a dict, or None", value)
    for key in value:
        if not isinstance(key, str):
            raise holds(label, "a dict with str keys", key, "the key ")
    return value


class JobAttributes:
    """Ancillary information about how a job is to be run. Wrong types raise TypeError.

    ``duration`` is the walltime: a job that runs longer can be ended. ``custom_attributes`` maps ``<executor>.<name>``
    to a value for that executor's scheduler (``slurm.constraint``). ``project_name`` is the old name of ``account``.
    """

    def __init__(
        self,
        duration: timedelta = _DEFAULT_DURATION,
        queue_name: str | None = None,
        account: str | None = None,
        reservation_id: str | None = None,
        custom_attributes: dict[str, object] | None = None,
        project_name: str | None = None,
    ) -> None:
        self._duration = _duration("JobAttributes.duration", duration)
        self.queue_name = queue_name
        self.account = account
        self.reservation_id = reservation_id
        self.custom_attributes = custom_attributes
        # Nobody asked for the default; on this machine itself, where there is no queue to be fair to, it ends no job.
        self._duration_is_default = duration is _DEFAULT_DURATION
        if project_name is not None:
            self.project_name = project_name

    queue_name = Field[str | None, str | None](optional_text, "The queue, or partition, to send the job to.")
    account = Field[str | None, str | None](optional_text, "The account to charge.")
    reservation_id = Field[str | None, str | None](optional_text, "An advance reservation to run in.")
    custom_attributes = Field[dict[str, object] | None, dict[str, object] | None](_attributes, "The custom attributes, or None.")

    @property
    def duration(self) -> timedelta:
        """The walltime."""
        return self._duration

    @duration.setter
    def duration(self, value: timedelta) -> None:
        self._duration = _duration("JobAttributes.duration", value)
        self._duration_is_default = False

    def set_custom_attribute(self, name: str, value: object) -> None:
        """Set one custom attribute."""
        if not isinstance(name, str):
            raise wrong("name", "a str", name)
        if self.custom_attributes is None:
            self.custom_attributes = {}
        attributes = self.custom_attributes
        assert attributes is not None
        attributes[name] = value

    def get_custom_attribute(self, name: str) -> object | None:
        """One custom attribute; None where it is not set."""
        return (self.custom_attributes or {}).get(name)

    @property
    def project_name(self) -> str | None:
        """Deprecated: use ``account``."""
        return self.account

    @project_name.setter
    def project_name(self, value: str | None) -> None:
        logger.warning("JobAttributes.project_name is deprecated; use account")
        self.account = value

    @staticmethod
    def parse_walltime(walltime: str) -> timedelta:
        """The duration that a text stands for.

        ``hh:mm:ss``, ``hh:mm``, ``mm`` (minutes), or a number, which may have a fraction, and one unit: ``y`` (365
        days), ``M`` (30 days), ``d``, ``h``, ``m``, ``s``. ValueError for anything else, TypeError for what is no str.
        """
        if not isinstance(walltime, str):
            raise wrong("walltime", "a str", walltime)
        if match := _CLOCK.fullmatch(walltime):
            first, second, third = match.groups()
            if all(int(part) < 60 for part in (second, third) if part is not None):
                if second is None:
                    return timedelta(minutes=int(first))
                return timedelta(hours=int(first), minutes=int(second), seconds=int(third or 0))
        elif match := _UNITS.fullmatch(walltime):
            return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
        raise ValueError(
            f"{walltime!r} is not a walltime; write hh:mm:ss, hh:mm, minutes, or a number with y, M, d, h, m or s, such as '90m'"
        )

    def __eq__(self, other: object) -> bool:
        return same(self, other, _NAMES) if isinstance(other, JobAttributes) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return "JobAttributes({})".format(", ".join(f"{name}={getattr(self, name)!r}" for name in _NAMES))
