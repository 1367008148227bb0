"""What may become of a scheduler's output on its way: cut, mixed, doubled, strange lines between. For all dialects' fuzz tests."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

__all__ = ["FOREIGN", "damaged", "noise"]

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
            left[at] = left[at][:place] + left[draw(st.integers(0, len(left) - 1))]
        elif kind == "foreign":
            left.insert(at, draw(st.sampled_from(FOREIGN)))
        elif kind == "empty":
            left.insert(at, b"\n")
        elif kind == "gone":
            del left[at]
    return b"".join(left)


def noise(lines: Sequence[bytes], alphabet: bytes) -> st.SearchStrategy[bytes]:
    """Anything: bytes, lines in any order, letters of the format."""
    return st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([*lines, *FOREIGN]), max_size=10).map(b"".join),
        st.lists(st.sampled_from(list(alphabet)), max_size=200).map(bytes),
    )
