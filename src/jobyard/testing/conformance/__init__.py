"""The suite that every scheduler adapter inherits. It needs pytest and hypothesis, and goes through Session alone.

An adapter's test module gives two fixtures and one line for each area::

    from jobyard.testing import conformance

    @pytest.fixture
    def session():
        with jobyard.Session("mine") as session:
            yield session
            if not session.closed:
                session.cancel()  # what a failing test leaves running would get in the way of the next

    @pytest.fixture
    def features(session):
        return conformance.Features(contact="mine", scheduler="mine", capabilities=session.capabilities, poll_s=2)

    class TestSubmit(conformance.Submit): ...
    class TestArrays(conformance.Arrays): ...

``session`` is a fresh one for each test. What a scheduler cannot do is declared by its Capabilities, and the tests then assert
the refusal; what it cannot know, or how slow it is, by Features. The temporary folders of pytest must be visible to the
nodes (``--basetemp``). JOBYARD_STATE_DIR and JOBYARD_WORK_DIR must be set: tests start further processes, which find the
session by them.
"""

import pytest

_AREAS = (
    "arrays",
    "control",
    "endings",
    "environment",
    "launching",
    "limits",
    "listing",
    "reopening",
    "streams",
    "submission",
    "waiting",
)
# Before the import, so that a failing assert of an inherited test shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{area}" for area in (*_AREAS, "support")))

from .arrays import Arrays  # noqa: E402
from .control import Control  # noqa: E402
from .endings import Endings  # noqa: E402
from .environment import Environment, HostileBytes  # noqa: E402
from .launching import Launchers, Staging  # noqa: E402
from .limits import BeginTime, Dependencies, Limits, Priority  # noqa: E402
from .listing import Cost, Fork, Listing, Litter  # noqa: E402
from .reopening import Reopen  # noqa: E402
from .streams import Streams  # noqa: E402
from .submission import Submit  # noqa: E402
from .support import Features  # noqa: E402
from .waiting import Callbacks, Waiting  # noqa: E402

__all__ = [
    "Arrays",
    "BeginTime",
    "Callbacks",
    "Control",
    "Cost",
    "Dependencies",
    "Endings",
    "Environment",
    "Features",
    "Fork",
    "HostileBytes",
    "Launchers",
    "Limits",
    "Listing",
    "Litter",
    "Priority",
    "Reopen",
    "Staging",
    "Streams",
    "Submit",
    "Waiting",
]
