"""What only Grid Engine has, on a running cell: endings, resources, limits, an absent qmaster, and the cost of following jobs.

Faults are put between jobyard and the cell's own commands by programs of the same names, first on PATH.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from pathlib import Path

import pytest

from jobyard import Cause, Job, JobState, Session, SubmitError
from jobyard.errors import ControlError
from jobyard.job import By
from jobyard.testing import jobs
from jobyard.testing.polling import eventually
from schedulers.between import (
    FAULTS,
    LIMIT_S,
    Commands,
    assert_no_answer_changes_nothing,
    assert_thousand_are_one,
    assert_told_at_once,
    begun,
    follow,
    found,
    reached,
)
from schedulers.live import CONTACT, only_on
from schedulers.own import *  # noqa: F403

only_on("gridengine")

PROGRAMS = ("qsub", "qstat", "qacct", "qdel", "qhold", "qrls", "qmod", "qconf")
DEBIAN = Path("/usr/lib/gridengine")
QUERY = "qstat -u $user -s prs -r"
SUBMIT = "qsub"
KILLS = 5
AWAY = """echo 'error: commlib error: got select error (Connection refused)' >&2
echo 'error: unable to send message to qmaster using port 6444 on host "localhost": got send error' >&2
exit 1
"""


@functools.cache
def real(program: str) -> Path:
    """The cell's own command; Debian's are wrapped in scripts that cost more than they do."""
    path = found(program)
    return DEBIAN / program if path == Path("/usr/bin", program) and (DEBIAN / program).exists() else path


def told(native_id: str) -> str:
    """What qstat -j says of it."""
    return subprocess.run(["qstat", "-j", native_id], capture_output=True, text=True, check=False).stdout


def shown(job: Job) -> str:
    """What qstat -j says of it."""
    return told(job.native_id or "")


# Endings -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_that_grid_engine_takes_for_its_own(session: Session, code: int) -> None:
    """99 would run the job again without end, and 100 keep it in the queue for ever."""
    job = session.submit(jobs.exit_with(code), rerunnable=True)
    ending = job.wait(LIMIT_S)
    assert (ending.exit_code, ending.cause, ending.attempts) == (code, Cause.EXITED, 1)
    eventually(lambda: not shown(job), "Grid Engine lets go of the job", LIMIT_S)


def test_a_job_that_cannot_be_started_is_not_left_in_the_queue(session: Session) -> None:
    """Its folder is away when it starts: Grid Engine keeps it in its error state, and we end it, with Grid Engine's reason."""
    job, other = session.submit(jobs.succeed(), hold=True), session.submit(jobs.succeed(), hold=True)
    work = Path(os.environ["JOBYARD_WORK_DIR"]) / f"jobyard-{os.getuid()}"
    away = work / job.token[:2] / job.token
    away.rename(work / "away")
    session.release([job])
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.aborted) == (JobState.FAILED, Cause.NOT_STARTED, True)
    assert "No such file or directory" in ending.message
    assert not shown(job)
    other.release()
    assert other.wait(LIMIT_S).success


def test_somebody_elses_job_in_the_error_state_is_left_alone(session: Session, tmp_path: Path) -> None:
    """It is the user's own, submitted by qsub and followed by us: it waits, and says why."""
    argv = ["qsub", "-terse", "-b", "y", "-wd", str(tmp_path / "nowhere"), "-o", "/dev/null", "-j", "y", "/bin/true"]
    native_id = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        eventually(lambda: "can't chdir" in told(native_id), "it is in the error state", LIMIT_S)
        job = session.attach(native_id)
        reached(session, job, JobState.HELD)
        eventually(lambda: job.reason and "can't chdir" in job.reason, "the reason", LIMIT_S)
        assert job.by is By.SYSTEM
        assert shown(job)
    finally:
        subprocess.run(["qdel", native_id], capture_output=True, check=True)


def test_a_job_that_is_deleted_by_hand(session: Session, tmp_path: Path) -> None:
    """For Grid Engine that is as if the job had killed itself: no receipt, signal 9."""
    job = begun(session, tmp_path)
    subprocess.run(["qdel", job.native_id or ""], capture_output=True, check=True)
    ending = job.wait(LIMIT_S)
    assert (ending.state, ending.signal) == (JobState.FAILED, "SIGKILL")
    assert ending.usage.native["failed"].startswith("100")


def test_a_limit_explains_the_ending(session: Session) -> None:
    """No receipt: KILL comes at once. Accounting says that a limit was passed, and the job's requests which."""
    ending = session.submit(jobs.sleep(60), walltime=1).wait(LIMIT_S)
    assert (ending.state, ending.cause, ending.signal) == (JobState.FAILED, Cause.WALLTIME, "SIGKILL")
    assert "h_rt" in ending.message
    assert ending.usage.native["category"].endswith("h_rt=1")


def test_signals_are_refused_by_name(session: Session, tmp_path: Path) -> None:
    job = session.submit(jobs.gated(tmp_path / "gate"))
    with pytest.raises(ControlError, match="gridengine cannot signal jobs; a user can only suspend, resume and cancel"):
        job.signal("USR1")


def is_held(job: Job, by: By) -> bool:
    return (job.state, job.by) == (JobState.HELD, by)


def test_who_holds_a_job(session: Session, tmp_path: Path) -> None:
    first = session.submit(jobs.gated(tmp_path / "gate"))
    after = session.submit(jobs.succeed(), after=[(first, "any")])
    later = session.submit(jobs.succeed(), begin_at=time.time() + 3600)
    held = session.submit(jobs.succeed(), hold=True)
    both = session.submit(jobs.succeed(), hold=True, after=[(first, "any")])
    for job, by in ((after, By.SYSTEM), (later, By.SYSTEM), (held, By.USER), (both, By.BOTH)):
        eventually(functools.partial(is_held, job, by), f"{job.native_id} is held by {by}", LIMIT_S)
    both.release()
    eventually(lambda: both.by is By.SYSTEM, "only the other job holds it", LIMIT_S)
    (tmp_path / "gate").touch()
    assert after.wait(LIMIT_S).success
    assert both.wait(LIMIT_S).success


# Resources -----------------------------------------------------------------------------------------------------------------


def test_slots_are_given_by_a_parallel_environment(session: Session, tmp_path: Path) -> None:
    job = session.submit(jobs.shell('echo "$NSLOTS $PE" >"$1"', tmp_path / "seen"), processes=1, cores=3)
    job.wait(LIMIT_S).check()
    assert (tmp_path / "seen").read_text() == "3 smp\n"


def test_memory_is_a_limit_of_each_slot(session: Session, tmp_path: Path) -> None:
    """h_vmem becomes a limit of address space, of all slots on the node together."""
    script = jobs.shell('ulimit -v >"$1"', tmp_path / "seen")
    session.submit(script, memory="512MiB", cores=2).wait(LIMIT_S).check()
    assert (tmp_path / "seen").read_text() == f"{512 * 1024}\n"


def test_what_is_asked_for_arrives(session: Session) -> None:
    job = session.submit(
        jobs.succeed(),
        hold=True,
        gpus=2,
        exclusive=True,
        walltime="90s",
        priority=-7,
        queue="all.q",
        name="9 lives",
        native=("-l", "mem_free=1M"),
        attributes={"gridengine.R": "y"},
    )
    text = shown(job)
    for word in ("gpu=2", "exclusive=true", "h_rt=90", "mem_free=1M"):
        assert word in text, text
    assert "priority:                   -7" in text
    assert "hard_queue_list:            all.q" in text
    assert "job_name:                   _9_lives" in text
    assert "reserve:                    y" in text
    assert f"account:                    {job.token}" in text


# Limits of the site ----------------------------------------------------------------------------------------------------------

SMALL = """"$real" "$@" | sed 's/^max_aj_tasks.*/max_aj_tasks LIMIT/'; exit
"""
STRICT = """for word; do
    if [ "$before" = -t ]; then
        first=${word%%-*}; rest=${word#*-}; last=${rest%%:*}; step=${rest##*:}
        [ $(( (last - first) / step + 1 )) -le LIMIT ] || { echo 'Unable to run job: job rejected: more tasks' >&2; exit 1; }
    fi
    before=$word
done
"""


def limited(commands: Commands, limit: int) -> None:
    """Let the site allow arrays of so many tasks: it says so, and refuses larger ones."""
    commands.fault(SMALL.replace("LIMIT", str(limit)), "qconf")
    commands.fault(STRICT.replace("LIMIT", str(limit)), "qsub")


def test_an_array_of_ten_thousand_over_a_limit_stays_one(commands: Commands, session: Session) -> None:
    limited(commands, 1001)
    array = session.submit_array(jobs.succeed(), range(1, 10_001), hold=True)
    tasks = list(array)
    assert [task.task_index for task in tasks] == list(range(1, 10_001))
    assert commands.calls("qsub ") == 10
    assert len({(task.native_id or "").partition(".")[0] for task in tasks}) == 10
    assert len(session.array(array.token)) == 10_000
    before = commands.calls("qdel ")
    session.cancel(tasks)
    assert commands.calls("qdel ") - before == 1
    assert all(ending.state is JobState.CANCELLED for ending in session.wait_all(tasks, timeout=LIMIT_S))


def test_parts_of_an_array_run_as_one(commands: Commands, session: Session, tmp_path: Path) -> None:
    """Indices, cap and order are those of the whole array, whatever parts it went in."""
    limited(commands, 4)
    script = jobs.shell('echo "$JOBYARD_TASK_INDEX $SGE_TASK_ID" >"$1.$JOBYARD_TASK_INDEX"', tmp_path / "seen")
    indices = [*range(3, 30, 3), 100, 107]
    array = session.submit_array(script, indices, max_running=6)
    assert all(ending.success for ending in session.wait_all(list(array), timeout=LIMIT_S))
    assert commands.calls("qsub ") == 3
    for index in indices:
        assert (tmp_path / f"seen.{index}").read_text() == f"{index} {index}\n"


# A qmaster that is away ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
def test_no_answer_changes_no_state_and_recovery_is_automatic(commands: Commands, yard: Path, tmp_path: Path, kind: str) -> None:
    with Session(f"{CONTACT}?poll=0.2s") as session:
        assert_no_answer_changes_nothing(session, commands, tmp_path, kind, AWAY)


def test_a_refusal_is_no_outage(session: Session) -> None:
    with pytest.raises(SubmitError, match=r"nosuch\.q") as caught:
        session.submit(jobs.succeed(), queue="nosuch.q")
    assert not caught.value.retryable
    assert session.jobs() == []


# Accounting --------------------------------------------------------------------------------------------------------------------


def test_accounting_that_is_late(commands: Commands, session: Session) -> None:
    """For a while it does not know the job, then it does: the ending waits for it, and has its cause."""
    count = commands.folder / "count"
    commands.fault(
        f'echo >> {count}\n[ "$(wc -l < {count})" -gt 3 ] || {{ echo "error: job id $2 not found" >&2; exit 1; }}\n', "qacct"
    )
    ending = session.submit(jobs.sleep(60), walltime=1).wait(LIMIT_S)
    assert ending.cause is Cause.WALLTIME


def test_accounting_that_is_away_for_a_while(commands: Commands, session: Session, tmp_path: Path) -> None:
    commands.fault("echo 'sh: disk full' >&2; exit 2\n", "qacct")
    job = begun(session, tmp_path)
    subprocess.run([real("qdel"), job.native_id or ""], capture_output=True, check=True)
    eventually(lambda: commands.calls("qacct") >= 2, "accounting is asked", LIMIT_S)
    assert not job.state.final
    commands.clear()
    assert job.wait(LIMIT_S).signal == "SIGKILL"


# Cost --------------------------------------------------------------------------------------------------------------------------


def test_a_thousand_like_jobs_are_one_qsub(commands: Commands, session: Session) -> None:
    assert_thousand_are_one(session, commands, "qsub ", "qdel ")


def test_twenty_processes_ask_no_more_than_one(commands: Commands, yard: Path) -> None:
    """1,000 jobs of twenty processes, and 50 of one: one question an interval, whoever asks it."""
    alone = follow(commands, CONTACT, 1, 50, 10)
    together = follow(commands, CONTACT, 20, 50, 10)
    assert alone >= 3
    assert together <= alone + 1, f"{together} queries by twenty processes, {alone} by one"


def test_the_end_of_a_job_is_told_at_once(session: Session, tmp_path: Path) -> None:
    """By its receipt: libdrmaa tells it after 0.7 s, because Grid Engine's daemons look once a second."""
    assert_told_at_once(session, tmp_path, 9)
