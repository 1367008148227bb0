"""Receipts read back as observations: ``parse_receipt`` is pure, ``read_receipts`` looks into a folder on this machine.

What a receipt says is believed only if it is a regular file of ours, not larger than 64 KiB, with the job's token and nonce,
and of a format that is known. Any other is none; the log says why, at debug level.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import stat
from collections.abc import Iterable, MutableSet
from typing import Annotated, Any, Literal

import msgspec

from .job import Cause, Ending, JobState, Observation, Source, Usage, signal_name
from .node.workroot import PASSING

__all__ = ["MAX_BYTES", "describe_receipt", "parse_receipt", "read_receipts", "receipt_order"]

MAX_BYTES = 64 * 1024
_NAME = re.compile(
    r"receipt\.(0|[1-9][0-9]{0,8})\.([1-9][0-9]{0,8})\.(begin|stage_in|running|stage_out|cleaning|end|refused)\.json"
)
_ORDER = ("begin", "stage_in", "running", "stage_out", "cleaning", "end", "refused")
_STATES = {
    "stage_in": JobState.STAGING_IN,
    "running": JobState.RUNNING,
    "stage_out": JobState.STAGING_OUT,
    "cleaning": JobState.CLEANING,
}
_log = logging.getLogger("jobyard.receipts")

_Code = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Signal = Annotated[int, msgspec.Meta(ge=1, le=128)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=10**12)]


class _Receipt(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal[1]
    nonce: str
    token: str
    task: int
    attempt: int
    kind: str
    at: _Moment
    native_id: str | None
    host: str
    pid: int
    stages: bool = False
    exit_code: _Code | None = None
    signal: _Signal | None = None
    core: bool = False
    cause: Cause | None = None
    message: str | None = None
    signals: tuple[tuple[str, float], ...] = ()
    clean: bool = False
    usage: Usage = Usage()
    began_at: _Moment | None = None
    ended_at: _Moment | None = None
    aborted: bool = False
    holder: dict[str, Any] | None = None


class _NoReceipt(ValueError):
    """Why a file is not believed."""


def parse_receipt(name: str, data: bytes, *, nonce: str, token: str) -> tuple[int, Observation] | None:
    """The task's number and what its receipt says; None for a name that is no receipt's, and for what is not to be believed."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        receipt = _checked(data, nonce, token)
        if (receipt.task, receipt.attempt, receipt.kind) != (int(match[1]), int(match[2]), match[3]):
            raise _NoReceipt("its name and its content differ")
        return receipt.task, _end(receipt) if receipt.kind == "end" else _stage(receipt)
    except (ValueError, RecursionError) as error:
        _log.debug("%r is not taken for a receipt: %s", name, error)
        return None


def _checked(data: bytes, nonce: str, token: str) -> _Receipt:
    if len(data) > MAX_BYTES:
        raise _NoReceipt("it is larger than 64 KiB")
    receipt = msgspec.convert(json.loads(data), _Receipt)
    if receipt.nonce != nonce or receipt.token != token:
        raise _NoReceipt("it is not of this job")
    if not all(math.isfinite(value) for value in (receipt.at, receipt.began_at or 0.0, receipt.ended_at or 0.0)):
        raise _NoReceipt("its times are no times")
    if receipt.kind == "end":
        if receipt.exit_code is not None and receipt.signal is not None:
            raise _NoReceipt("it has an exit code and a signal")
        if not receipt.aborted and receipt.exit_code is None and receipt.signal is None and receipt.cause is not Cause.SHEPHERD:
            raise _NoReceipt("it has neither an exit code nor a signal")
    return receipt


def _stage(receipt: _Receipt) -> Observation:
    state = _STATES.get(receipt.kind)
    reason = f"on {receipt.host}"
    holder_id: str | None = None
    if receipt.kind == "begin":
        state = JobState.STAGING_IN if receipt.stages else JobState.RUNNING
    elif receipt.kind == "refused":
        holder = receipt.holder or {}
        known = holder.get("native_id")
        holder_id = known if isinstance(known, str) else None
        reason = f"on {receipt.host}; the job was begun as {holder.get('native_id')} on {holder.get('host')}"
    return Observation(
        source=Source.RECEIPT,
        at=receipt.at,
        what=receipt.kind,
        state=state,
        reason=reason,
        native_id=receipt.native_id,
        holder=holder_id,
        attempt=receipt.attempt,
    )


def _end(receipt: _Receipt) -> Observation:
    success = receipt.exit_code == 0 and receipt.cause in (None, Cause.EXITED)
    ending = Ending(
        state=JobState.DONE if success else JobState.FAILED,
        cause=receipt.cause or (Cause.UNKNOWN if receipt.aborted else Cause.EXITED),
        exit_code=receipt.exit_code,
        signal=None if receipt.signal is None else signal_name(receipt.signal),
        core_dumped=receipt.core,
        aborted=receipt.aborted,
        message=receipt.message or "",
        usage=receipt.usage,
        began_at=receipt.began_at,
        ended_at=receipt.ended_at,
        host=receipt.host,
        attempts=receipt.attempt,
    )
    return Observation(
        source=Source.RECEIPT,
        at=receipt.at,
        what="end",
        state=ending.state,
        reason=f"on {receipt.host}",
        native_id=receipt.native_id,
        attempt=receipt.attempt,
        ended=receipt.clean,
        ending=ending,
        clean=receipt.clean,
        signals=tuple(name for name, _ in receipt.signals),
    )


def receipt_order(name: str) -> tuple[int, int, int]:
    """A key to sort receipts' names by: task, attempt, stage. Names that are none come first."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), _ORDER.index(match[3])) if match else (-1, 0, 0)


def describe_receipt(observation: Observation) -> str:
    """What a receipt says, for ``why``."""
    run = f"run {observation.attempt} as {observation.native_id} {observation.reason or ''}".rstrip()
    if observation.what == "end":
        told = f"the command {observation.ending}"
        if observation.signals:
            told += f"; signals that came meanwhile: {', '.join(observation.signals)}"
        return f"receipt, {run}: {told}" + ("" if observation.clean else "; not final by itself")
    told = {
        "begin": "began",
        "stage_in": "files are brought in",
        "running": "the command runs",
        "stage_out": "files are brought out",
        "cleaning": "files are cleaned",
        "refused": "was not run",
    }.get(observation.what, observation.what)
    return f"receipt, {run}: {told}"


def read_receipts(folder: str, *, nonce: str, token: str, seen: MutableSet[str] | None = None) -> list[tuple[int, Observation]]:
    """What the receipts in a job's folder on this machine say, by task and attempt, in order.

    ``seen``: names that are skipped; those read now are added. A folder that is not there, or not ours, has none. OSError
    where it cannot be listed, or what is in it cannot be read now.
    """
    try:
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        if os.fstat(parent).st_uid != os.getuid():
            _log.debug("%r belongs to somebody else: no receipts are read there", folder)
            return []
        found: list[tuple[int, Observation]] = []
        read: list[str] = []
        for name in _new(os.listdir(parent), seen):
            data = _read(parent, name)
            if data is None:
                continue
            if parsed := parse_receipt(name, data, nonce=nonce, token=token):
                found.append(parsed)
            read.append(name)
        if seen is not None:
            seen |= set(read)  # only now: where one cannot be read now, those before it are read again
        return found
    finally:
        os.close(parent)


def _new(names: Iterable[str], seen: MutableSet[str] | None) -> list[str]:
    fresh = [name for name in names if name.startswith("receipt.") and (seen is None or name not in seen) and _NAME.fullmatch(name)]
    return sorted(fresh, key=receipt_order)


def _read(parent: int, name: str) -> bytes | None:
    """The content of a regular file of ours; None otherwise. One byte more than may be, where it is larger."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in PASSING:
            raise
        _log.debug("%r is not taken for a receipt: %s", name, error)
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            _log.debug("%r is not taken for a receipt: it is not a regular file of ours", name)
            return None
        data = b""
        while len(data) <= MAX_BYTES and (part := os.read(fd, MAX_BYTES + 1 - len(data))):
            data += part
        return data
    finally:
        os.close(fd)
