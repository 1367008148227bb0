"""What fronts need beyond the public names of ``jobyard``: values that their own vocabularies are translated to.

A front imports ``jobyard`` and this module, and nothing beneath them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import state_dir, work_root
from .contact import Contact, register_options
from .description import describe
from .job import (
    After,
    By,
    Inherit,
    Observation,
    Placeholder,
    Source,
    StageIn,
    StageMode,
    StageOut,
    StageWhen,
    Transition,
    signal_name,
)
from .schedulers import find_known, is_here, open_scheduler, scheduler_names
from .schedulers import found as schedulers_found
from .schedulers.base import (
    Accepted,
    Action,
    Answer,
    Command,
    Kind,
    Result,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from .session import Watch

if TYPE_CHECKING:
    from .transports.base import Transport

__all__ = [
    "Accepted",
    "Action",
    "After",
    "Answer",
    "By",
    "Command",
    "Contact",
    "Inherit",
    "Kind",
    "Observation",
    "Placeholder",
    "Result",
    "Row",
    "SiteLimits",
    "Source",
    "StageIn",
    "StageMode",
    "StageOut",
    "StageWhen",
    "Submission",
    "Traits",
    "Transition",
    "Watch",
    "describe",
    "find_known",
    "is_here",
    "local_transport",
    "open_scheduler",
    "register_options",
    "scheduler_names",
    "schedulers_found",
    "signal_name",
    "state_dir",
    "work_root",
]


def local_transport() -> Transport:
    """The transport to this machine, for schedulers that a front makes itself."""
    from .transports.local import LocalTransport  # here: most programs never need it

    return LocalTransport()
