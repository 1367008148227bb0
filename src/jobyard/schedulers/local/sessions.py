"""Sessions of a store seen as a whole: for those who look at all jobs of their user, whichever session submitted them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .store import Store

__all__ = ["owner", "recent"]

_SESSION_DIGITS = 16  # a token begins with its session (protocol.make_token)


def recent(store: Store, newest: int | None) -> list[str]:
    """Ids of the sessions that the ``newest`` so many jobs belong to (None: all jobs)."""
    rows = store.execute(
        "SELECT DISTINCT s.id FROM (SELECT batch FROM jobs ORDER BY number DESC LIMIT ?) j "
        "JOIN batches b ON b.no=j.batch JOIN sessions s ON s.no=b.session",
        (-1 if newest is None else newest,),
    )
    return [str(one) for (one,) in rows]


def owner(store: Store, text: str, by_native_id: Callable[[str], Sequence[int]]) -> str | None:
    """Id of the session that submitted the job with that native id, or with a token that begins so."""
    head = text[:_SESSION_DIGITS]
    if len(head) == _SESSION_DIGITS and store.session(head) is not None:
        return head
    numbers = by_native_id(text)
    if not numbers:
        return None
    row = store.execute(
        "SELECT s.id FROM jobs j JOIN batches b ON b.no=j.batch JOIN sessions s ON s.no=b.session WHERE j.number=?", (numbers[0],)
    ).fetchone()
    return None if row is None else str(row[0])
