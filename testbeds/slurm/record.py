"""Record what Slurm answers to the commands of the adapter, for its parsers' tests. Run by samples.sh, as an ordinary user.

``record.py OUT`` submits jobs of known fates and asks about them. Each answer NAME is kept as OUT/NAME.out and NAME.err, with
a line in OUT/INDEX.tsv: name, exit code, the command as json. OUT/fates.json says which native id had which fate.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobyard.job import JobDescription
from jobyard.schedulers.base import Action, Command, Kind, Result, Submission
from jobyard.schedulers.slurm import SlurmDialect
from jobyard.schedulers.slurm.answers import parse_version, release_of

OUT = Path(sys.argv[1]).resolve()
WORK = OUT.parent / "work"
VERSION = subprocess.run(["sbatch", "--version"], stdout=subprocess.PIPE, check=True).stdout
DIALECT = SlurmDialect(release=release_of(parse_version(Result(argv=(), returncode=0, stdout=VERSION))))
BAD = OUT.parent / "bad.conf"  # a cluster whose controller and database are away
OFF = OUT.parent / "off.conf"  # one without accounting
FATES: dict[str, str] = {}
INDEX: list[str] = []


def run(command: Command, name: str | None = None, **environment: str) -> Result:
    """Run it; keep the answer where it has a name."""
    variables = {**os.environ, **command.environment, **environment}
    if environment:  # the beds' commands are wrappers that bring their own SLURM_CONF
        variables["PATH"] = f"{os.environ['REAL_BIN']}:{variables['PATH']}"
    done = subprocess.run(command.argv, capture_output=True, env=variables, cwd=WORK, timeout=120, check=False)
    result = Result(argv=command.argv, returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)
    if name is not None:
        for suffix, data in (("out", done.stdout), ("err", done.stderr)):
            if data:
                (OUT / f"{name}.{suffix}").write_bytes(data)
        INDEX.append(f"{name}\t{done.returncode}\t{json.dumps(command.argv)}\n")
    return result


def sh(*argv: str, name: str | None = None) -> str:
    """Any command of Slurm's; its standard output."""
    return run(Command(argv=argv), name).text.strip()


def job(fate: str, script: str, *options: str, directory: Path = WORK) -> str:
    """A job of that fate; its id."""
    words = (f"--chdir={directory}", "--output=/dev/null", *options, f"--wrap={script}")
    number = sh("sbatch", "--parsable", "--no-requeue", "--export=NIL", *words).partition(";")[0]
    FATES[fate] = number
    return number


def state(native_id: str) -> str:
    """Its state now."""
    return sh("squeue", "-h", "-r", "-t", "all", "-o", "%T", "-j", native_id)


def until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait for it."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"record.py: not within {limit_s:g} s: {what}")
        time.sleep(0.2)


def control(action: Action, name: str, *native_ids: str) -> None:
    """Do it, as the adapter does."""
    for command, _ in DIALECT.control_commands(action, native_ids, signal=10):
        run(command, f"control-{action.value}-{name}")


def submissions() -> None:
    """What sbatch answers."""
    script = WORK / "run.sh"
    script.write_text("#!/bin/sh\nexit 0\n")

    def submit(name: str, submission: Submission, **environment: str) -> str:
        return run(DIALECT.submit_command(submission, str(script)), f"submit-{name}", **environment).text.strip()

    def described(token: str, **fields: object) -> Submission:
        folder = WORK / token
        folder.mkdir(exist_ok=True)
        kind = Kind(str(fields.pop("kind", "single")))
        indices: Sequence[int] = fields.pop("indices", ())  # type: ignore[assignment]
        description = JobDescription(argv=("x",), **fields)  # type: ignore[arg-type]
        return Submission(token=token, folder=str(folder), description=description, kind=kind, indices=tuple(indices))

    single, array = secrets.token_hex(16), secrets.token_hex(16)
    FATES[f"token-single-{single}"] = submit("single", described(single))
    FATES[f"token-array-{array}"] = submit("array", described(array, kind="array", indices=(5, 7, 9)))
    submit("queue", described("c3" * 16, queue="nosuch"))
    submit("account", described("c4" * 16, account="nosuch"))
    submit("reservation", described("c5" * 16, reservation="nosuch"))
    submit("constraint", described("c6" * 16, native=("--constraint=nosuch",)))
    submit("option", described("c7" * 16, native=("--no-such-option",)))
    submit("time", described("c8" * 16, native=("--time=banana",)))
    submit("priority", described("c9" * 16, priority=5))
    submit("array-too-large", described("ca" * 16, kind="array", indices=(0, 99_999_999)))
    submit("nodes", described("cb" * 16, native=("--nodes=99", "--hold")))
    submit("away", described("cc" * 16), SLURM_CONF=str(BAD))


def fates() -> None:
    """Jobs of every fate, up to what needs waiting for."""
    for code in (0, 3, 99, 100, 128, 137, 255):
        job(f"exit-{code}", f"exit {code}")
    for name in ("KILL", "TERM", "SEGV", "USR1"):
        job(f"signal-{name}", f"kill -{name} $$")
    job("no-output", "true", "--output=/nonexistent/file")
    job("no-program", "/no/such/program")
    hostile = WORK / "a\nb|1|#1#\n1|1|"
    hostile.mkdir(exist_ok=True)
    name = "x\n1|1|COMPLETED|1|None|1|0#1#\n"
    job("hostile", "sleep 15", f"--job-name={name}", directory=hostile)
    job("held", "true", "--hold")
    job("begin", "true", "--begin=now+1hour")
    job("cancelled-held", "true", "--hold")
    job("cancelled-running", "sleep 300")
    job("stopped", "sleep 300")
    job("requeued", "sleep 300", "--requeue")
    job("running", "sleep 300")
    job("depends", "true", f"--dependency=afterok:{FATES['running']}")
    job("never", "true", f"--dependency=afterok:{FATES['exit-3']}", "--kill-on-invalid-dep=yes")
    job("array", "sleep 300", "--array=1-6%2")
    job("array-cancelled", "sleep 300", "--array=1-9%1")
    job("timeout", "sleep 300", "--time=1")
    job("deadline", "sleep 300", f"--deadline=uts{int(time.time()) + 75}", "--time=1")
    job("memory", "exec python3 -c 'x=bytearray(400000000); import time; time.sleep(40)'", "--mem=60")
    job("node", "sleep 300", *os.environ.get("NODE_OPTIONS", "").split())


def nodes_fail() -> None:
    """samples.sh lets the node of one job fail, where nobody else uses the bed."""
    node = sh("squeue", "-h", "-j", FATES["node"], "-o", "%N")
    ask, answer = OUT.parent / "fail-node", OUT.parent / "node-failed"
    ask.write_text(node)
    until(answer.exists, 60, "an answer of samples.sh")
    if answer.read_text().strip() != "failed":
        FATES.pop("node")


def controls() -> None:
    """Every action on every kind of job; several at once, an unknown one among them."""
    held, running, array = FATES["held"], FATES["running"], FATES["array"]
    control(Action.HOLD, "some", FATES["depends"], f"{array}_5", f"{array}_6", "99999999", f"{array}_77", FATES["exit-0"])
    control(Action.RELEASE, "some", FATES["depends"], f"{array}_5", "99999999", f"{array}_77", FATES["exit-0"])
    control(Action.RELEASE, "one-unknown", "99999999")
    control(Action.SUSPEND, "running", FATES["stopped"])
    control(Action.SUSPEND, "tasks", f"{array}_1", f"{array}_2")
    control(Action.RESUME, "tasks", f"{array}_1", f"{array}_2")
    control(Action.SIGNAL, "some", FATES["exit-0"], "99999999", running)
    control(Action.SIGNAL, "waiting", held)
    control(Action.REQUEUE, "forbidden", running)
    control(Action.REQUEUE, "some", FATES["requeued"], held, "99999999", FATES["exit-3"])
    control(Action.CANCEL, "some", FATES["cancelled-running"], FATES["cancelled-held"], "99999999", FATES["exit-0"])
    control(Action.CANCEL, "array", *[f"{FATES['array-cancelled']}_{n}" for n in (1, 4, 5, 6, 8)])
    control(Action.CANCEL, "garbage", "no such job")
    if foreign := os.environ.get("FOREIGN"):
        for action in (Action.CANCEL, Action.HOLD, Action.SIGNAL):
            control(action, "foreign", foreign)


def away() -> None:
    """The same questions where nobody answers."""
    settings = {"SLURM_CONF": str(BAD)}
    run(DIALECT.query_command(["1"]), "query-away", **settings)
    for action in (Action.CANCEL, Action.HOLD, Action.SIGNAL):
        for command, _ in DIALECT.control_commands(action, ["1", "2"], signal=10):
            run(command, f"control-{action.value}-away", **settings)
    limits = DIALECT.limits_command()
    account = DIALECT.account_command(["1"])
    assert limits is not None
    assert account is not None
    run(limits, "limits-away", **settings)
    run(account, "account-away", **settings)
    run(account, "account-off", SLURM_CONF=str(OFF))


def configurations() -> None:
    """Copies of the bed's slurm.conf, with ports where nobody listens, and without accounting."""
    conf = Path(os.environ["SLURM_CONF_FOUND"]).read_text()
    lines = [line for line in conf.splitlines() if not line.startswith(("MessageTimeout", "AccountingStorageEnforce"))]
    changes: Mapping[str, str] = {"SlurmctldPort": "1", "AccountingStoragePort": "1"}
    bad = [f"{key}={changes.get(key, rest)}" if mark else key for key, mark, rest in (line.partition("=") for line in lines)]
    BAD.write_text("\n".join([*bad, "MessageTimeout=2", ""]))
    OFF.write_text("\n".join(["#" + line if line.startswith("AccountingStor") else line for line in lines] + [""]))


def main() -> None:
    """All of it."""
    for folder in (OUT, WORK):
        folder.mkdir(parents=True, exist_ok=True)
    configurations()
    sh("sbatch", "--version", name="version")
    limits = DIALECT.limits_command()
    assert limits is not None
    run(limits, "limits")
    words = ("--user=nobody" if word == "--me" else word for word in DIALECT.query_command([]).argv)  # who has no jobs
    run(Command(argv=tuple(words)), "query-empty")
    submissions()
    fates()
    until(lambda: state(FATES["node"]) == "RUNNING" and state(FATES["array"] + "_2") == "RUNNING", 200, "all run that can")
    until(lambda: state(FATES["signal-USR1"]) == "FAILED", 60, "the short ones have ended")
    run(DIALECT.query_command(["1"]), "query-early")
    controls()
    until(lambda: state(FATES["cancelled-running"]) == "CANCELLED", 60, "the cancel is through")
    until(lambda: state(FATES["requeued"]) == "PENDING", 60, "the requeued one waits")
    run(DIALECT.query_command(["1"]), "query-live")
    ids = [number for fate, number in FATES.items() if not fate.startswith("token")]
    account = DIALECT.account_command(ids)
    assert account is not None
    run(account, "account-early")
    until(lambda: state(FATES["timeout"]) == "TIMEOUT", 150, "the time limit")
    until(lambda: state(FATES["deadline"]) not in ("RUNNING", "COMPLETING"), 150, "the deadline")
    until(lambda: state(FATES["memory"]) not in ("RUNNING", "COMPLETING"), 90, "the memory's")
    nodes_fail()  # what runs on it ends with it
    sh("scancel", f"--user={os.environ['USER']}")
    until(lambda: not sh("squeue", "--me", "-h"), 60, "all have ended")
    run(DIALECT.query_command(["1"]), "query-ended")
    time.sleep(25)  # accounting is late, of arrays above all
    run(account, "account")
    unknown = DIALECT.account_command(["99999999"])
    assert unknown is not None
    run(unknown, "account-unknown")
    for name, command in zip(("find-queue", "find-account"), DIALECT.find_commands([]), strict=True):
        run(command, name)
    away()
    (OUT / "INDEX.tsv").write_text("".join(INDEX))
    (OUT / "fates.json").write_text(json.dumps(FATES, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
