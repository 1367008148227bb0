"""Record what HTCondor answers to the adapter's own commands. Run by samples.sh as an ordinary user.

``record.py OUTDIR FOLDER``: NAME.cmd, NAME.out, NAME.err (where not empty) and NAME.rc in OUTDIR, and NAME.in where a
description went to standard input; jobs.json has the ids of the jobs by what they are examples of. FOLDER is the work folder,
and stands in the samples as it is.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from jobyard.job import JobDescription, Limits, Resources
from jobyard.schedulers.base import Action, Command, Kind, Result, Submission
from jobyard.schedulers.htcondor import HTCondorDialect
from jobyard.transports.local import LocalTransport

OUT, WORK = Path(sys.argv[1]), Path(sys.argv[2])
DIALECT, TRANSPORT = HTCondorDialect(), LocalTransport()
_numbers = iter(range(1, 1000))


def record(name: str, command: Command) -> Result:
    """Run one command and keep its answer."""
    result = TRANSPORT.run(command)
    (OUT / f"{name}.cmd").write_text(shlex.join(command.argv) + "\n")
    (OUT / f"{name}.out").write_bytes(result.stdout)
    (OUT / f"{name}.rc").write_text(f"{result.returncode}\n")
    if result.stderr:
        (OUT / f"{name}.err").write_bytes(result.stderr)
    if command.stdin:
        (OUT / f"{name}.in").write_bytes(command.stdin)
    return result


def submission(script: str, *, count: int = 0, cap: int | None = None, **fields: object) -> Submission:
    """A submission whose batch script is this shell text instead of the shepherd."""
    token = f"{next(_numbers):032x}"
    folder = WORK / token
    folder.mkdir()
    (folder / "run.sh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "run.sh").chmod(0o755)
    return Submission(
        token=token,
        folder=str(folder),
        description=JobDescription(argv=("sample",), **fields),  # type: ignore[arg-type]
        kind=Kind.ARRAY if count else Kind.SINGLE,
        indices=tuple(range(1, count + 1)),
        max_running=cap,
    )


def submit(name: str, one: Submission) -> tuple[str, ...]:
    """Submit, keep the answer, give the ids."""
    result = record(f"submit-{name}", DIALECT.submit_command(one, f"{one.folder}/run.sh"))
    return DIALECT.parse_submit(result, one).native_ids


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within a minute: {what}")
        time.sleep(0.2)


def states() -> dict[str, str]:
    """The scheduler's word for each job in the queue."""
    return {row.native_id: row.native_state for row in DIALECT.parse_query(TRANSPORT.run(DIALECT.query_command(()))).rows}


def control(name: str, action: Action, *jobs: str) -> None:
    """One action on these."""
    for number, (command, _) in enumerate(DIALECT.control_commands(action, jobs, signal=None)):
        record(f"{name}-{number}" if number else name, command)


def main() -> None:
    """All samples."""
    record("version", DIALECT.version_command())
    limits = DIALECT.limits_command()
    assert limits is not None
    record("limits", limits)
    record("capabilities", DIALECT.capabilities_command())
    until(lambda: not states(), "the queue is empty; record when nobody else has jobs there")
    record("queue-empty", DIALECT.query_command(()))

    ended = {
        "done": submit("done", submission("exit 0", name='a "b" $(c) \\d')),
        "exit3": submit("exit3", submission("exit 3")),
        "kill": submit("kill", submission("kill -KILL $$")),
        "segv": submit("segv", submission("kill -SEGV $$", limits=Limits(core_bytes=1 << 20))),
        "walltime": submit("walltime", submission("exec sleep 300", limits=Limits(walltime_s=2))),
        "unreadable": submit("unreadable", unreadable := submission("exit 0", hold=True)),
    }
    (WORK / unreadable.token / "run.sh").unlink()
    TRANSPORT.run(Command(argv=("condor_release", *ended["unreadable"])))
    until(lambda: not set(states()) & {job for jobs in ended.values() for job in jobs}, "all have ended")

    held = submit("held", submission("exec sleep 300", hold=True))
    later = submit("later", submission("exec sleep 300", begin_at=time.time() + 86400))
    no_room = submit("no-room", submission("exec sleep 300", resources=Resources(cores=1000, memory_bytes=3 << 20)))
    array = submit("array", submission("exec sleep 300", count=3))
    capped = submit("capped", submission("exec sleep 300", count=6, cap=2))
    again = submit("rerunnable", submission("exec sleep 300", rerunnable=True))
    until(lambda: [states()[job] for job in (*array, *again, *capped[:2])] == ["RUNNING"] * 6, "they run")
    control("suspend", Action.SUSPEND, array[2], held[0])
    until(lambda: states()[array[2]] == "SUSPENDED", "it is suspended")
    control("hold", Action.HOLD, no_room[0], array[0], "999999.0")
    until(lambda: states()[no_room[0]] == "HELD", "it is held")
    time.sleep(3)  # for the negotiator's word on the others
    record("queue", DIALECT.query_command(()))
    control("hold-again", Action.HOLD, no_room[0])
    control("release", Action.RELEASE, no_room[0], array[0], "999999.0")
    control("resume", Action.RESUME, array[2], array[0])
    control("requeue", Action.REQUEUE, again[0], array[0], held[0])
    control("cancel-some", Action.CANCEL, held[0], "999999.0", capped[4])
    record("queue-some", DIALECT.query_command(()))
    control("cancel-rest", Action.CANCEL, *capped[1:], *array, *later, *no_room, *again)
    TRANSPORT.run(Command(argv=("condor_rm", *capped[:1])))
    until(lambda: not states(), "the queue is empty again")
    everything = [job for jobs in (*ended.values(), held, later, no_room, array, capped, again) for job in jobs]
    command = DIALECT.account_command(everything)
    assert command is not None
    record("history", command)
    command = DIALECT.account_command(["999999.0"])
    assert command is not None
    record("history-unknown", command)

    named = {**ended, "held": held, "later": later, "no-room": no_room, "array": array, "capped": capped, "rerunnable": again}
    (OUT / "jobs.json").write_text(json.dumps(named, indent=1) + "\n")

    found = submission("exec sleep 300", count=4, cap=1)
    jobs = submit("found", found)
    unknown = submission("exit 0")
    for number, command in enumerate(DIALECT.find_commands([found, unknown])):
        record(f"find-{number}", command)
    TRANSPORT.run(DIALECT.control_commands(Action.CANCEL, jobs, signal=None)[0][0])

    bad = {"native": ("-append", "request_cpus = many and more")}
    record("refused-expression", _command(submission("exit 0", **bad)))
    record("refused-option", _command(submission("exit 0", native=("-nosuchoption",))))
    record("refused-many", _command(submission("exit 0", count=2500)))
    one = submission("exit 0")
    away = HTCondorDialect(schedd="nosuch")
    record("away-submit", away.submit_command(one, f"{one.folder}/run.sh"))
    record("away-capabilities", away.capabilities_command())
    record("away-queue", away.query_command(()))
    record("away-cancel", away.control_commands(Action.CANCEL, ["1.0"], signal=None)[0][0])

    # The schedd is down: it left no address, or one where nobody answers. Its history can be read all the same.
    stale = WORK / "address"
    stale.write_text("<127.0.0.1:1>\n$CondorVersion: 23.9.6 2026-07-12 $\n$CondorPlatform: X86_64 $\n")
    for word, path in (("gone", "/nonexistent"), ("closed", str(stale))):
        settings = {
            "_CONDOR_SCHEDD_ADDRESS_FILE": path,
            "_CONDOR_COLLECTOR_HOST": "127.0.0.1:1",
            "_CONDOR_SCHEDD_DAEMON_AD_FILE": path,
        }
        commands = {
            "submit": DIALECT.submit_command(one, f"{one.folder}/run.sh"),
            "queue": DIALECT.query_command(()),
            "release": DIALECT.control_commands(Action.RELEASE, ["1.0"], signal=None)[0][0],
            "history": DIALECT.account_command(ended["exit3"]),
        }
        for name, command in commands.items():
            assert command is not None
            record(f"{word}-{name}", msgspec.structs.replace(command, environment={**command.environment, **settings}))


def _command(one: Submission) -> Command:
    return DIALECT.submit_command(one, f"{one.folder}/run.sh")


main()
