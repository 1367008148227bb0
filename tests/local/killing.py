"""Rounds of jobs with known fates while the pair is killed, and the comparison of what was told with what is true."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from jobyard.job import Cause, Ending, JobDescription, JobState
from jobyard.keeper import Placed
from jobyard.schedulers.local import kernel
from local.rig import Rig

__all__ = ["Outcome", "find_pair", "play"]

SIGNALS = (6, 9, 10, 11, 15)


def find_pair(state_dir: Path) -> dict[str, list[int]]:
    """The pids of living servers and spawners of a state directory."""
    found: dict[str, list[int]] = {"server": [], "spawner": []}
    parents: dict[int, int] = {}
    wanted = os.fsencode(state_dir / "local")
    for pid in kernel.all_pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        process = kernel.read_process(pid)
        if wanted not in words or process is None or process.zombie or process.session != pid:
            continue
        if process.comm == "jobyard-server":
            found["server"].append(pid)
        elif process.comm == kernel.COMM:
            found["spawner"].append(pid)
            parents[pid] = process.ppid
    # A job that has not come to its exec looks like the spawner that is its parent.
    found["spawner"] = [pid for pid in found["spawner"] if parents[pid] not in parents]
    return found


class Fate(NamedTuple):
    """What a job does, and how it must end."""

    argv: tuple[str, ...]
    code: int | None
    signal: int | None
    counted: bool


def fate(random_: random.Random, number: int) -> Fate:
    """One job."""
    if random_.random() < 0.25:
        return Fate(("/bin/true",), 0, None, False)
    note = f"echo {number} >>runs; "
    pause = f"sleep 0.0{random_.randint(1, 9)}; " if random_.random() < 0.5 else ""
    if random_.random() < 0.1:
        note += "(sleep 0.3) & "
    if random_.random() < 0.3:
        which = random_.choice(SIGNALS)
        return Fate(("/bin/sh", "-c", f"{note}{pause}kill -{which} $$; sleep 100"), None, which, True)
    code = random_.randrange(256)
    return Fate(("/bin/sh", "-c", f"{note}{pause}exit {code}"), code, None, True)


class Outcome(NamedTuple):
    """What one round showed. All but ``lost`` and ``kills`` must be 0."""

    kills: int
    unreported: int
    wrong: int
    lost: int
    run_twice: int
    never_run: int
    details: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing was wrong; jobs may be lost."""
        return not (self.unreported or self.wrong or self.run_twice or self.never_run)


class Killer(threading.Thread):
    """Kills what it is told to, at random moments."""

    def __init__(self, state_dir: Path, targets: tuple[str, ...], kills: int, span_s: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._state_dir = state_dir
        self._targets = targets
        self._kills = kills
        self._span_s = span_s
        self._random = random.Random(seed)
        self.killed = 0

    def run(self) -> None:
        """Kill."""
        moments = sorted(self._random.uniform(0.02, self._span_s) for _ in range(self._kills))
        begun = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            pair = find_pair(self._state_dir)
            both = self._targets == ("both",)
            kinds = ["server", "spawner"] if both else [self._random.choice(self._targets)]
            self._random.shuffle(kinds)
            for kind in kinds:
                for pid in pair[kind]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                        self.killed += 1
                    except ProcessLookupError:
                        continue


def play(state_dir: Path, targets: tuple[str, ...], *, jobs: int, kills: int, span_s: float, seed: int) -> Outcome:
    """One round: jobs go in while the killer is at work; then everything that was told is compared with what is true."""
    random_ = random.Random(seed)
    folder = state_dir / "work"
    folder.mkdir(parents=True)
    rig = Rig(state_dir, slots=8, idle=2)
    try:
        rig.run(["/bin/true"])  # the pair is up
        killer = Killer(state_dir, targets, kills, span_s, seed + 1)
        killer.start()
        fates: list[tuple[Placed, Fate]] = []
        requests = 10
        for request in range(requests):
            chosen = [fate(random_, request * 1000 + n) for n in range(jobs // requests)]
            placed = rig.keeper.submit([JobDescription(argv=one.argv, directory=str(folder)) for one in chosen])
            fates.extend(zip(placed, chosen, strict=True))
            rig.keeper.wait_until(lambda: False, span_s / requests * random_.random())
        told = rig.keeper.wait_until(lambda: all(job.key in rig.endings for job, _ in fates), 150)
        killer.join()
        return _judge(rig, fates, folder, killer.killed, told)
    finally:
        rig.close()


def _judge(rig: Rig, fates: list[tuple[Placed, Fate]], folder: Path, kills: int, told: bool) -> Outcome:
    runs = Counter((folder / "runs").read_text().split()) if (folder / "runs").exists() else Counter()
    details: list[str] = []
    wrong = lost = unreported = never = 0
    for job, expected in fates:
        ending = rig.endings.get(job.key)
        if ending is None:
            unreported += 1
            entry = rig.keeper.entries([job.key])
            details.append(
                f"unreported: {expected.argv} is {entry[0].state if entry else 'gone'} {entry[0].reason if entry else ''}"
            )
            continue
        if ending.cause is Cause.LOST:
            lost += 1
            continue
        if not _matches(ending, expected):
            wrong += 1
            details.append(f"wrong: {job.native_id} {expected.argv} {ending}")
        if expected.counted:
            name = expected.argv[2].split()[1]
            if not runs[name]:
                never += 1
                details.append(f"never run: {job.native_id} {expected.argv} {ending}")
    twice = [name for name, count in runs.items() if count > 1]
    details.extend(f"run twice: {name}" for name in twice)
    assert told or unreported
    return Outcome(kills, unreported, wrong, lost, len(twice), never, tuple(details))


def _matches(ending: Ending, expected: Fate) -> bool:
    if expected.signal is not None:
        return ending.signal == signal.Signals(expected.signal).name and ending.exit_code is None
    state = JobState.DONE if expected.code == 0 else JobState.FAILED
    return ending.exit_code == expected.code and ending.state is state and ending.cause is Cause.EXITED
