"""Native ids of Slurm: ``4269``, a task's ``4269_3``, and lists of tasks as the commands take and print them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["expanded", "is_id", "ranges", "words"]

# No job is 0, which means all jobs to sacct.
_ID = re.compile(r"([1-9][0-9]{0,9})(?:_([0-9]{1,10})|\+[0-9]{1,5})?", re.ASCII)  # 4269+1: a part of a heterogeneous job
_LISTED = re.compile(r"([0-9]{1,10})_\[?([0-9,:-]{1,1000000})(?:%[0-9]{1,10})?\]?", re.ASCII)
_MOST = 4_000_001  # tasks in one array, by Slurm's own limit (slurm.conf, MaxArraySize)


def is_id(text: str) -> bool:
    """The id of one job, or of one task."""
    return _ID.fullmatch(text) is not None


def expanded(text: str) -> tuple[str, ...]:
    """The ids that a word stands for: itself, or each task of ``4351_[3-5,9%2]``, ``4351_3-5``; none where it is no id."""
    if is_id(text):
        return (text,)
    match = _LISTED.fullmatch(text)
    if match is None:
        return ()
    found: list[str] = []
    for part in match[2].split(","):
        span = re.fullmatch(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?", part, re.ASCII)
        if span is None:
            return ()
        first, last, step = int(span[1]), int(span[2] or span[1]), int(span[3] or 1)
        if step < 1 or last < first or (last - first) // step + len(found) >= _MOST:
            return ()
        found.extend(f"{match[1]}_{index}" for index in range(first, last + 1, step))
    return tuple(found)


def ranges(indices: Sequence[int]) -> str:
    """Indices as ``--array`` takes them, runs of equal steps joined: ``1-9:2,20``. They go up, as an array's do."""
    parts: list[str] = []
    at = 0
    while at < len(indices):
        step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        end = at
        while end + 1 < len(indices) and indices[end + 1] - indices[end] == step:
            end += 1
        if end == at or step < 1 or (end == at + 1 and step > 1):
            parts.append(str(indices[at]))
            end = at
        else:
            parts.append(f"{indices[at]}-{indices[end]}" + (f":{step}" if step > 1 else ""))
        at = end + 1
    return ",".join(parts)


def words(native_ids: Iterable[str], most_bytes: int = 60_000) -> list[tuple[str, tuple[str, ...]]]:
    """The fewest words that name these jobs, tasks of an array together (``4269_[1-3,7]``), each with its ids.

    A word is at most about ``most_bytes`` long: the kernel takes 128 KiB. What is no id of Slurm's stands alone.
    """
    tasks: dict[str, list[int]] = {}
    found: list[tuple[str, tuple[str, ...]]] = []
    for native_id in dict.fromkeys(native_ids):
        match = _ID.fullmatch(native_id)
        if match is not None and match[2] is not None and str(int(match[2])) == match[2]:
            tasks.setdefault(match[1], []).append(int(match[2]))
        else:
            found.append((native_id, (native_id,)))
    for array, indices in tasks.items():
        indices.sort()
        parts: list[str] = []
        members: list[str] = []
        length = 0
        for first, last in _runs(indices):
            part = str(first) if first == last else f"{first}-{last}"
            if parts and length + len(part) > most_bytes:
                found.append((_word(array, parts), tuple(members)))
                parts, members, length = [], [], 0
            parts.append(part)
            members.extend(f"{array}_{index}" for index in range(first, last + 1))
            length += len(part) + 1
        found.append((_word(array, parts), tuple(members)))
    return found


def _word(array: str, parts: Sequence[str]) -> str:
    """``scancel`` has no steps within brackets; a single task stands without them."""
    return f"{array}_{parts[0]}" if len(parts) == 1 and "-" not in parts[0] else f"{array}_[{','.join(parts)}]"


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
