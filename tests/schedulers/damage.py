"""What may become of a scheduler's output on its way: cut, mixed, doubled, strange lines between. For all dialects' fuzz tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st

__all__ = ["FOREIGN", "Hurt", "damaged", "hurt_once", "noise"]

FOREIGN = (
    b"JOBID|STATE\n",
    b"slurm_load_jobs error\n",
    b"\n",
    b"   \n",
    b"*** maintenance on Monday ***\n",
    b"<html>502</html>\n",
    b"{}\n",
    b"Job Id: 7\n",
    b'{"id": 7}\n',
)


@st.composite
def damaged(draw: st.DrawFn, lines: Sequence[bytes], parts: bool = False) -> bytes:
    """Good lines, one to three things done to them.

    What is mixed into a line is a whole one: parts of two, put together, may make a good line, and nothing shows that it is none.

    ``parts``: a line tells one thing of a job, not all of it. One that stands whole in another's place, or behind a whole one, is
    not made then: nothing in a record shows that it was another's.
    """
    left = list(lines)
    for _ in range(draw(st.integers(1, 3))):
        if not left:
            break
        at = draw(st.integers(0, len(left) - 1))
        kind = draw(st.sampled_from(["cut", "tail", "mixed", "foreign", "empty", "gone"]))
        place = draw(st.integers(0, len(left[at])))
        if kind == "cut":
            left[at:] = [left[at][:place]]  # the output ends there
        elif kind == "tail":
            left[at] = left[at][place:]
        elif kind == "mixed" and not (parts and (not left[at][:place].strip() or left[at][:place].endswith(b"\n"))):
            left[at] = left[at][:place] + draw(st.sampled_from(lines))
        elif kind == "foreign":
            left.insert(at, draw(st.sampled_from(FOREIGN)))
        elif kind == "empty":
            left.insert(at, b"\n")
        elif kind == "gone":
            del left[at]
    return b"".join(left)


class Hurt(NamedTuple):
    """Lines to one of which one thing was done: what, and which it was."""

    lines: list[bytes]
    kind: str
    at: int

    @property
    def text(self) -> bytes:
        return b"".join(self.lines)


@st.composite
def hurt_once(draw: st.DrawFn, lines: Sequence[bytes], foreign: Sequence[bytes] = FOREIGN) -> Hurt:
    """One thing done to good lines; each stays a line."""
    left = list(lines)
    at, place = draw(st.integers(0, len(left) - 1)), draw(st.integers(0, 200))
    kind = draw(st.sampled_from(["cut", "end", "foreign", "twice", "mixed"]))
    if kind == "cut":  # the line lost its end, as where two writers share a pipe
        left[at] = left[at][:place].rstrip(b"\n") + b"\n"
    elif kind == "end":  # the output ends there
        left[at:] = [left[at][:place]]
    elif kind == "foreign":
        left.insert(at, draw(st.sampled_from(foreign)))
    elif kind == "twice":
        left.insert(at, left[at])
    else:
        left[at] = left[at][:place].rstrip(b"\n") + draw(st.sampled_from(left))
    return Hurt(left, kind, at)


def noise(lines: Sequence[bytes], alphabet: bytes) -> st.SearchStrategy[bytes]:
    """Anything: bytes, lines in any order, letters of the format."""
    return st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([*lines, *FOREIGN]), max_size=10).map(b"".join),
        st.lists(st.sampled_from(list(alphabet)), max_size=200).map(bytes),
    )
