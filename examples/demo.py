"""The main job of jobyard on its embedded scheduler, start to end: what ``make demo`` runs.

A session, a job, an array of 15 tasks, waiting, control, reopening, every kind of ending, and a table of what happened.
All of it in a folder of its own, which is gone afterwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jobyard
from jobyard.schedulers.local import stop


def say(text: str = "") -> None:
    """Print one line at once, so that the demonstration is seen as it happens."""
    print(text, flush=True)


def one_job(session: jobyard.Session) -> jobyard.Job:
    """Submit one job with a name, an environment and limits, and wait for it."""
    say("1. One job: its output goes to a file, its ending is waited for.")
    job = session.submit(
        ["/bin/sh", "-c", 'echo "the answer is $ANSWER, said job $JOBYARD_NATIVE_ID"'],
        name="answer",
        cores=1,
        walltime="1m",
        environment={"ANSWER": "42"},
        stdout="answer.txt",
    )
    ending = job.wait(timeout=60)
    say(f"   job {job.native_id} {ending}; answer.txt: {Path('answer.txt').read_text(encoding='utf-8').strip()}")
    return job


def an_array(session: jobyard.Session) -> list[jobyard.Job]:
    """Submit an array of 15 tasks, at most four at a time, and take them as they end."""
    say("2. An array of 15 tasks with indices 1, 3, ... 29, at most four at a time.")
    tasks = session.submit_array(
        ["/bin/sh", "-c", "echo $((JOBYARD_TASK_INDEX * JOBYARD_TASK_INDEX))"],
        range(1, 31, 2),
        name="squares",
        max_running=4,
        stdout=f"square.{jobyard.JobArray.INDEX}",
    )
    order = [task.task_index for task in session.as_completed(tasks, timeout=60)]
    say(f"   ended in the order {' '.join(map(str, order))}")
    squares = [int(Path(f"square.{task.task_index}").read_text(encoding="utf-8")) for task in tasks]
    say(f"   their output: {' '.join(map(str, squares))}")
    if squares != [index * index for index in range(1, 31, 2)]:
        raise SystemExit("the tasks' output is not what it should be")
    return list(tasks)


def control(session: jobyard.Session) -> list[jobyard.Job]:
    """Hold and release a job, suspend and resume it, cancel it; let another wait for one before it."""
    say("3. Control: a job held, released, suspended, resumed, cancelled; one that waits for another.")
    job = session.submit(["/bin/sleep", "60"], name="sleeper", hold=True)
    told = [str(job.state)]
    job.release()
    until(job, jobyard.JobState.RUNNING)
    told.append("released")
    job.suspend()
    told.append(str(job.state))
    job.resume()
    told.append("resumed")
    job.cancel()
    job.wait(timeout=60)
    told.append(str(job.state))
    say(f"   {', '.join(told)}")
    first = session.submit(["/bin/sleep", "0.2"], name="first")
    second = session.submit(["/bin/true"], name="second", after=first)
    session.wait_all([first, second], timeout=60)
    assert first.ending is not None
    assert second.ending is not None
    gap = (second.ending.began_at or 0.0) - (first.ending.ended_at or 0.0)
    say(f"   the second job began {gap * 1000:.1f} ms after the first had ended")
    return [job, first, second]


def until(job: jobyard.Job, state: jobyard.JobState) -> None:
    """Wait until a job has got to a state; jobs tell their endings by themselves, other states are looked at."""
    deadline = time.monotonic() + 30
    while job.state is not state:
        if time.monotonic() > deadline:
            raise SystemExit(f"job {job.native_id} is {job.state}, not {state}")
        time.sleep(0.01)


def endings(session: jobyard.Session) -> list[jobyard.Job]:
    """Let jobs end in different ways: each is told apart, and nothing is guessed."""
    say("4. Endings, each told apart.")
    jobs = [
        session.submit(["/bin/sh", "-c", "exit 3"], name="exits"),
        session.submit(["/bin/sh", "-c", "kill -SEGV $$"], name="crashes", core_size=0),
        session.submit(["/bin/sleep", "60"], name="too-long", walltime="0.3s"),
        session.submit(["/no/such/program"], name="missing"),
    ]
    session.wait_all(jobs, timeout=60)
    for job in jobs:
        say(f"   {job.name:<8}  {job.ending}")
    return jobs


def reopened(contact: str, expected: int) -> None:
    """Open the session again by its contact, as another process would, and count its jobs."""
    say("5. The same session opened again by its contact, as another process would:")
    with jobyard.Session(contact) as session:
        jobs = session.jobs()
        states = Counter(str(job.state) for job in jobs)
        say(f"   {contact}: {len(jobs)} jobs, {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}")
        if len(jobs) != expected:
            raise SystemExit(f"{expected} jobs were submitted")


def table(jobs: list[jobyard.Job]) -> None:
    """Print what happened."""
    say("6. What happened:")
    say(f"   {'job':>6}  {'name':<9} {'state':<10} {'ending':<8} {'cause':<12} {'wall':>7} {'CPU':>7}")
    for job in jobs:
        ending = job.wait(0)
        how = f"exit {ending.exit_code}" if ending.exit_code is not None else ending.signal or "-"
        wall = "" if ending.usage.wall_s is None else f"{ending.usage.wall_s:.3f} s"
        cpu = "" if ending.usage.cpu_s is None else f"{ending.usage.cpu_s:.3f} s"
        say(f"   {job.native_id:>6}  {job.name:<9} {job.state:<10} {how:<8} {ending.cause:<12} {wall:>7} {cpu:>7}")


def main() -> int:
    """Run all of it, in a folder of its own."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="jobyard-demo-") as folder:
        os.environ.update(
            JOBYARD_STATE_DIR=f"{folder}/state", JOBYARD_WORK_DIR=f"{folder}/work", JOBYARD_CONFIG=f"{folder}/config.toml"
        )
        os.makedirs(f"{folder}/out")
        os.chdir(f"{folder}/out")
        try:
            began_at = time.monotonic()
            with jobyard.Session("local?idle=1s") as session:
                contact = session.contact
                say(f"The embedded scheduler of this machine ({session.scheduler.version()}), session {contact}")
                jobs = [one_job(session), *an_array(session), *control(session), *endings(session)]
                reopened(contact, len(jobs))
                table(jobs)
                session.clean()
            say(f"{len(jobs)} jobs in {time.monotonic() - began_at:.1f} s; nothing is left of them.")
        finally:
            os.chdir(before)
            stop(Path(folder, "state"))  # at once; by itself it would go after a second without work
    return 0


if __name__ == "__main__":
    sys.exit(main())
