"""Record the golden samples again: ``python tests/base/record_golden.py`` runs the stand-in and writes ``golden/*.out``.

Each sample is what a command printed, byte for byte; ``golden/*.json`` is what the dialect reads in it, for test_dialect.py to
compare. Look at the difference before committing it: a sample that changed is a format that changed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from jobyard.job import JobDescription
from jobyard.schedulers.base import Kind, Result, Submission
from jobyard.testing.standin import Cell, StandinDialect, install, standin_scheduler

GOLDEN = Path(__file__).parent / "golden"
SUBMISSION = Submission(
    token="00112233445566778899aabbccddeeff",
    folder="/work/jobyard-1000/00/00112233445566778899aabbccddeeff",
    description=JobDescription(argv=("x",)),
    kind=Kind.ARRAY,
    indices=(1, 3, 5),
)


def parsed(name: str, result: Result) -> Any:
    """What the dialect reads in a sample, as plain values; an error as its type and text."""
    dialect = StandinDialect()
    try:
        if name.startswith("submit"):
            value: Any = dialect.parse_submit(result, SUBMISSION)
        elif name.startswith("queue"):
            value = dialect.parse_query(result)
        elif name.startswith("account"):
            value = dialect.parse_account(result)
        elif name.startswith("control"):
            answers = dialect.parse_control("cancel", result, ["1", "2", "3", "77"])  # type: ignore[arg-type]
            value = {key: None if error is None else [type(error).__name__, str(error)] for key, error in answers.items()}
        elif name.startswith("limits"):
            value = dialect.parse_limits(result)
        else:
            value = dialect.parse_version(result)
    except Exception as error:  # noqa: BLE001  # whatever it raises is what is recorded
        return [type(error).__name__, str(error)]
    return json.loads(json.dumps(msgspec.to_builtins(value)))


def read(name: str) -> Result:
    """A recorded sample."""
    text = (GOLDEN / f"{name}.out").read_bytes()
    code, out, err = text.split(b"\n--- ", 2)
    return Result(
        argv=(f"standin-{name}",),
        returncode=int(code),
        stdout=out.removeprefix(b"stdout\n"),
        stderr=err.removeprefix(b"stderr\n"),
    )


def write(name: str, code: int, out: bytes, err: bytes) -> None:
    """Keep a sample, with times and folders that do not change from one recording to the next."""
    out = re.sub(rb"\b1[0-9]{9}\.[0-9]+", b"1700000000.250", out)
    out = re.sub(rb"\|[0-9.]+\|[0-9.]+\|[0-9]+\|(?=[^|]*\|/)", b"|0.0125|0.0050|14000|", out)
    out = re.sub(rb"/[^|\n]*/([0-9a-f]{32})", b"/work/jobyard-1000/00/" + SUBMISSION.token.encode(), out)
    (GOLDEN / f"{name}.out").write_bytes(b"%d\n--- stdout\n%s\n--- stderr\n%s" % (code, out, err))
    shown = json.dumps(parsed(name, read(name)), indent=1, sort_keys=True)
    (GOLDEN / f"{name}.json").write_text(shown + "\n")


def record(cell: Cell, folder: Path) -> None:
    """All samples from one cell."""
    transport = standin_scheduler(cell).transport
    dialect = StandinDialect()
    number = iter(range(100))

    def command(name: str, *argv: str, stdin: bytes = b"") -> None:
        from jobyard.schedulers.base import Command

        result = transport.run(Command(argv=argv, stdin=stdin))
        write(name, result.returncode, result.stdout, result.stderr)

    def submit(name: str, script: str, *options: str) -> None:
        place = folder / f"{next(number):032x}"
        place.mkdir()
        (place / "run.sh").write_text(f"#!/bin/sh\n{script}\n")
        command(name, "standin-submit", f"--chdir={place}", *options, "--", f"{place}/run.sh")

    submit("submit", "exit 0", "--name=a|b%c\nd é")
    submit("submit-array", "exit 3", "--array=1,3,5", "--name=array")
    submit("submit-held", "exit 0", "--hold=user", "--name=held")
    submit("submit-kill", "kill -KILL $$")
    submit("submit-walltime", "exec sleep 600", "--walltime=0.1")
    submit("submit-later", "exit 0", "--begin=99999999999")
    submit("submit-refused", "exit 0", "--queue=nowhere")
    submit("submit-bad-option", "exit 0", "--frobnicate=1")
    wait = folder / "wait"
    os.mkfifo(wait)
    submit("submit-running", f"echo > {wait}; exec sleep 600")
    wait.read_text()
    while any(state in ("PENDING", "ENDING") for state, _, _ in cell.jobs().values()):
        pass
    while [state for state, _, _ in cell.jobs().values()].count("RUNNING") > 1:
        pass
    command("queue", "standin-queue")
    command("account", "standin-account", "-", stdin=b"1\n2\n4\n5\n999")
    command("account-none", "standin-account", "-", stdin=b"999")
    command("control", "standin-control", "cancel", "-", stdin=b"1\n3\n77")
    command("limits", "standin-limits")
    command("version", "standin-queue", "--version")
    cell.configure(accounting=False)
    command("account-off", "standin-account")
    cell.configure(away=True)
    command("submit-away", "standin-submit", "x")
    command("queue-away", "standin-queue")
    command("control-away", "standin-control", "cancel", "-", stdin=b"1")
    command("limits-away", "standin-limits")
    assert dialect.name


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, install(Path(place) / "cell", kill_grace_s=0.2) as cell:
        record(cell, Path(place))
    sys.stdout.write(f"{len(list(GOLDEN.glob('*.out')))} samples in {GOLDEN}\n")


if __name__ == "__main__":
    main()
