"""The suites on real schedulers: brings the test beds up, and runs every bed's tests beside the others'.

    tools/test_schedulers.py [--up-only] [--bed BED]... [-- PYTEST ARGUMENTS]

Every case marked ``everyday`` runs; FULL=1 runs all, and writes tests/schedulers/last_full_run.json, from which docs/differences.md
has the date, the results and the seconds of the cases that are left out of every day. Needs root on Debian; elsewhere it says so,
and nothing counts as passed. Ends with 1 if a bed does not come up or a test fails.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "schedulers" / "last_full_run.json"
# A bed: what brings it up, and its scheduler's cases.
BEDS = {  # the slowest first
    "oar": (["testbeds/oar/up.sh"], "oar"),
    "htcondor": (["testbeds/htcondor/up.sh"], "htcondor"),
    "slurm": (["testbeds/slurm/up.sh"], "slurm"),
    "gridengine": (["testbeds/gridengine/up.sh"], "gridengine"),
    "slurm-24.11": (["testbeds/slurm-releases/up.sh", "trixie"], "slurm"),
    "hyperqueue": (["testbeds/hyperqueue/up.sh"], "hyperqueue"),
    "slurm-ssh": (["testbeds/slurm/up.sh"], "slurm"),  # the same daemons, by way of an sshd
    "gridengine-ssh": (["testbeds/gridengine/up.sh"], "gridengine"),
}
# Of a scheduler's cases, those that run over ssh every day: where the connection plays a part. All of them with FULL=1.
OVER_SSH = ("Submit", "Endings", "Streams", "Reopen", "Litter")
OVER_SSH_FRONTS = ("tests/drmaa/test_fidelity.py", "tests/psij/test_launching.py")
# OAR's own rounds, a second or more before and after each job, and a Perl process for each command make its cases slow: of the
# fronts' suites these run every day there, all of them with FULL=1.
SLOW_FRONTS = {"oar": ("tests/drmaa/test_fidelity.py", "tests/drmaa/test_control.py", "tests/psij/test_launching.py")}
WORKERS = "3"
AT_ONCE = (os.cpu_count() or 1) + 1  # beds whose tests run at a time: with more, what is measured is the machine


def why_not() -> str | None:
    """Why the beds cannot be brought up here; None: they can."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return (
            "real schedulers are brought up as root on Debian (their packages come by apt): "
            "run `sudo make test-schedulers` there, or in a container of debian:12"
        )
    return None


def cases(bed: str) -> list[str]:
    """The tests that run on a bed, for pytest."""
    scheduler = BEDS[bed][1]
    if bed.endswith("-ssh"):
        suite = f"tests/schedulers/test_{scheduler}_live.py"
        if os.environ.get("FULL") == "1":
            return ["tests/schedulers/test_live_over_ssh.py", suite, "tests/drmaa", "tests/psij"]
        return ["tests/schedulers/test_live_over_ssh.py", *(f"{suite}::Test{area}" for area in OVER_SSH), *OVER_SSH_FRONTS]
    live = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests" / "schedulers").glob(f"test_{scheduler}_live*.py"))]
    fronts = ("tests/drmaa", "tests/psij")
    return [*live, *(fronts if os.environ.get("FULL") == "1" else SLOW_FRONTS.get(bed, fronts))]


def _run(command: list[str], log: IO[bytes]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)


@contextlib.contextmanager
def packages_start_nothing() -> Iterator[None]:
    """While packages are installed, none starts a daemon of its own (Debian's policy-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


class Bed:
    """One bed's run; ``failure`` tells what went wrong."""

    def __init__(self, name: str, room: Path) -> None:
        self.name = name
        self.log = room / f"{name}.log"
        self.report = room / f"{name}.xml"
        self.failure: str | None = None
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.took_s = 0.0

    def up(self) -> None:
        """Bring the daemons up."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            done = subprocess.run(
                ["bash", *BEDS[self.name][0]], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode != 0:
            self.failure = f"the bed did not come up (exit code {done.returncode})"
        say(f"{self.name}: {self.failure or f'up after {time.monotonic() - began:.0f} s'}")

    def test(self, arguments: list[str]) -> None:
        """Run its tests."""
        began = time.monotonic()
        command = ["bash", "testbeds/as_user.sh", self.name, "-n", WORKERS, "--dist", "loadscope", "--color=no", "-q"]
        command += [f"--junitxml={self.report}", "-o", "junit_family=xunit2", *(arguments or cases(self.name))]
        self.report.touch()
        self.report.chmod(0o666)
        with self.log.open("ab") as log:
            done = _run(command, log)
        self.took_s = time.monotonic() - began
        self._read()
        if done.returncode != 0:
            self.failure = f"pytest ended with {done.returncode}"
        say(f"{self.name}: {self.failure or 'passed'}, {self.shown()}, {self.took_s:.0f} s")

    def _read(self) -> None:
        try:
            suites = ET.parse(self.report).getroot()
        except ET.ParseError:
            return
        for case in suites.iter("testcase"):
            kind = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
            skipped = case.find("skipped")
            if skipped is not None and skipped.get("type") == "pytest.xfail":
                kind = "different"
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.seconds[f"{case.get('classname')}::{case.get('name')}"] = round(float(case.get("time", "0")), 1)

    def shown(self) -> str:
        """The counts in words."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())) or "no test ran"


_saying = threading.Lock()


def say(text: str) -> None:
    """One whole line at a time."""
    with _saying:
        sys.stdout.write(f"test-schedulers: {text}\n")
        sys.stdout.flush()


def together(beds: list[Bed], work: Callable[[Bed], None], at_once: int) -> None:
    """The same for all beds, so many at a time."""
    places = threading.Semaphore(at_once)

    def one(bed: Bed) -> None:
        with places:
            work(bed)

    threads = [threading.Thread(target=one, args=(bed,)) for bed in beds]
    for thread in threads:  # in this order they wait for a place
        thread.start()
    for thread in threads:
        thread.join()


def record(beds: list[Bed]) -> None:
    """Keep what a full run said."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    old: dict[str, object] = {}
    with contextlib.suppress(FileNotFoundError):
        old = json.loads(RECORD.read_text())
    for bed in beds:
        slow = {case: seconds for case, seconds in sorted(bed.seconds.items()) if seconds >= 20.0}
        old[bed.name] = {"date": today, "counts": bed.counts, "took_s": round(bed.took_s), "slow_s": slow}
    RECORD.write_text(json.dumps(old, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up-only", action="store_true", help="bring the beds up, run nothing")
    parser.add_argument("--bed", action="append", choices=sorted(BEDS), help="only this bed")
    parser.add_argument("arguments", nargs="*", help="for pytest, instead of the bed's own files")
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        say(f"skipped, nothing was tested: {reason}")
        return 0
    room = Path(tempfile.mkdtemp(prefix="jobyard-beds-"))
    room.chmod(0o755)
    beds = [Bed(name, room) for name in options.bed or BEDS]
    with packages_start_nothing():
        subprocess.run(["apt-get", "update", "-qq"], stdin=subprocess.DEVNULL, check=False)
        daemons = {tuple(BEDS[bed.name][0]): bed for bed in reversed(beds)}  # some beds share theirs
        together(list(daemons.values()), Bed.up, len(daemons))
        for bed in beds:
            bed.failure = daemons[tuple(BEDS[bed.name][0])].failure
    if not options.up_only:
        together([bed for bed in beds if bed.failure is None], lambda bed: bed.test(options.arguments), AT_ONCE)
        if os.environ.get("FULL") == "1" and not options.arguments:
            record(beds)
    failed = [bed for bed in beds if bed.failure is not None]
    for bed in failed:
        lines = bed.log.read_text(errors="replace").splitlines()
        sys.stdout.write("\n".join(["", f"==== {bed.name}: {bed.failure}", *lines[-150:], ""]))
    if not options.up_only:
        for bed in beds:
            say(f"{bed.name}: {bed.failure or 'passed'}: {bed.shown()} ({bed.took_s:.0f} s)")
    if failed:
        say(f"the whole output: {room}")
        return 1
    shutil.rmtree(room, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
