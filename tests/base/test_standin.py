"""The stand-in itself: a scheduler that really runs jobs, told from the outside by its commands."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from base.bench import Bench, gate
from jobyard.errors import NoScheduler, NotPermitted, SubmitError, UnknownJob, UnsupportedAttribute, WrongState
from jobyard.job import By, Cause, Inherit, JobDescription, JobState, Limits, Resources
from jobyard.schedulers.base import Action, Kind
from jobyard.schedulers.command import CommandScheduler
from jobyard.script import WorkRoot, job_files, new_token
from jobyard.testing.polling import assert_gone, eventually
from jobyard.testing.standin import Cell, install, open_standin, standin_scheduler

PROGRAMS = Path(sys.modules[Cell.__module__].__file__ or "").parent / "programs"


# Endings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 99, 100, 127, 255])
def test_exit_codes(bench: Bench, code: int) -> None:
    native_id = bench.submit(f"exit {code}")
    row = bench.until(native_id, "COMPLETED" if code == 0 else "FAILED")
    assert row.ended
    assert row.ending is not None
    assert row.state is row.ending.state is (JobState.DONE if code == 0 else JobState.FAILED)
    assert (row.ending.exit_code, row.ending.signal, row.ending.cause) == (code, None, Cause.EXITED)
    account = bench.scheduler.account([native_id])
    assert account.complete
    assert account.rows == (row,)


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM", "USR1"])
def test_signals(bench: Bench, name: str) -> None:
    row = bench.until(bench.submit(f"ulimit -c 0; kill -{name} $$"), "SIGNALED")
    assert row.ending is not None
    assert (row.ending.exit_code, row.ending.signal, row.ending.core_dumped) == (None, f"SIG{name}", False)


def test_a_core_dump(bench: Bench) -> None:
    row = bench.until(bench.submit("ulimit -c unlimited; kill -SEGV $$"), "SIGNALED")
    assert row.ending is not None
    plain = subprocess.run(["/bin/sh", "-c", "ulimit -c unlimited; kill -SEGV $$"], check=False, cwd=bench.folder)
    dumps = [path for path in bench.folder.iterdir() if path.name.startswith("core")]
    assert plain.returncode == -signal.SIGSEGV
    if dumps:
        assert row.ending.core_dumped


def test_usage_and_times(bench: Bench) -> None:
    before = time.time()
    row = bench.until(bench.submit("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"), "COMPLETED")
    ending = row.ending
    assert ending is not None
    assert ending.submitted_at is not None
    assert ending.began_at is not None
    assert ending.ended_at is not None
    assert before - 0.01 <= ending.submitted_at <= ending.began_at <= ending.ended_at <= time.time() + 0.01
    assert 0 < (ending.usage.cpu_s or 0) <= 60
    assert (ending.usage.max_rss_bytes or 0) > 100_000
    assert ending.attempts == 1


def test_a_job_gets_its_own_environment_folder_and_output(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CLIENT", "leaks")
    submission = bench.make("pwd; env; echo to-stderr >&2; read x || echo no-input", name="n a|m%e\n\udcffé")
    native_id = bench.accept(submission).native_ids[0]
    row = bench.until(native_id, "COMPLETED")
    assert row.name == "n a|m%e\n\udcffé"
    assert row.token == submission.token
    lines = (Path(submission.folder) / "batch.log").read_text().splitlines()
    assert lines[0] == submission.folder
    assert lines[-2:] == ["to-stderr", "no-input"]
    environment = dict(line.split("=", 1) for line in lines[1:-2])
    assert environment["STANDIN_JOB_ID"] == native_id
    assert environment["HOME"]
    assert environment["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert not {"OF_THE_CLIENT", "LC_CTYPE", "STANDIN_TASK"} & set(environment)


def test_relative_names_of_streams_lie_in_the_jobs_folder(cell: Cell, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("#!/bin/sh\necho out; echo err >&2\n")
    argv = [str(cell.bin / "standin-submit"), "--out=o.txt", "--err=e.txt", "job.sh"]
    subprocess.run(argv, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    eventually(lambda: (tmp_path / "e.txt").exists() and (tmp_path / "e.txt").read_text() == "err\n", "the job ran")
    assert (tmp_path / "o.txt").read_text() == "out\n"


def test_a_job_whose_folder_is_gone_fails(bench: Bench, cell: Cell) -> None:
    cell.configure(paused=True)
    submission = bench.make()
    native_id = bench.accept(submission).native_ids[0]
    (Path(submission.folder) / "run.sh").unlink()
    Path(submission.folder).rmdir()
    cell.configure(paused=False)
    row = bench.until(native_id, "FAILED")
    assert row.ending is not None
    assert "No such file" in (row.reason or "")


def test_what_a_job_leaves_behind_is_killed(bench: Bench) -> None:
    submission = bench.make("sleep 600 & echo $! > pid")
    bench.until(bench.accept(submission).native_ids[0], "COMPLETED")
    assert_gone(int((Path(submission.folder) / "pid").read_text()))


# Limits and resources -----------------------------------------------------------------------------------------------


def test_walltime_sends_term_then_kill(bench: Bench, cell: Cell) -> None:
    cell.configure(kill_grace_s=1.5)
    native_id = bench.submit('trap "echo term >> log" TERM; while :; do sleep 0.05; done', limits=Limits(walltime_s=3.0))
    row = bench.until(native_id, "TIMEOUT")
    assert row.ending is not None
    assert (row.ending.state, row.ending.cause, row.ending.signal) == (JobState.FAILED, Cause.WALLTIME, "SIGKILL")
    assert 4.5 <= (row.ending.usage.wall_s or 0) < 60
    (folder,) = bench.folder.iterdir()
    assert (folder / "log").read_text() == "term\n"


def test_a_job_that_ends_well_on_term_has_timed_out_all_the_same(bench: Bench) -> None:
    row = bench.until(bench.submit('trap "exit 0" TERM; while :; do sleep 0.02; done', limits=Limits(walltime_s=3.0)), "TIMEOUT")
    assert row.ending is not None
    assert (row.ending.state, row.ending.exit_code) == (JobState.FAILED, 0)


def test_run_time_does_not_count_suspension(bench: Bench) -> None:
    native_id = bench.submit("exec sleep 600", limits=Limits(run_time_s=3.0))
    bench.until(native_id, "RUNNING")
    assert bench.scheduler.control(Action.SUSPEND, [native_id]) == {native_id: None}
    suspended_at = time.time()
    eventually(lambda: time.time() > suspended_at + 3.2 or None, "the limit has passed")
    assert bench.rows()[native_id].native_state == "SUSPENDED"
    bench.scheduler.control(Action.RESUME, [native_id])
    row = bench.until(native_id, "TIMEOUT")
    assert row.ending is not None
    assert (row.ending.usage.wall_s or 0) > 6.1


def test_memory_is_enforced(bench: Bench) -> None:
    hungry = f"exec {sys.executable} -c 'x = b\"x\" * 200_000_000; import time; time.sleep(600)'"
    row = bench.until(bench.submit(hungry, resources=Resources(memory_bytes=100_000_000)), "OUT_OF_MEMORY")
    assert row.ending is not None
    assert row.ending.cause is Cause.MEMORY


def test_slots_are_never_overbooked(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=3)
    wait, go = gate(bench.folder)
    first = bench.submit(wait, resources=Resources(cores=2))
    bench.until(first, "RUNNING")
    second = bench.submit("exit 0", resources=Resources(processes=1, cores=2))
    third = bench.submit("exit 0")
    bench.until(third, "COMPLETED")  # backfill
    row = bench.rows()[second]
    assert (row.state, row.reason) == (JobState.QUEUED, "Resources")
    go()
    bench.until(second, "COMPLETED")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"queue": "nowhere"}, "invalid queue specified: nowhere"),
        ({"resources": Resources(cores=5)}, "requested cores 5 is more than this cell has"),
        ({"resources": Resources(memory_bytes=1 << 50)}, "requested memory"),
        ({"resources": Resources(gpus=3)}, "requested gpus 3"),
        ({"native": ("--frobnicate=1",)}, "unrecognized option --frobnicate"),
        ({"native": ("--cores=many",)}, "invalid value of --cores: many"),
        ({"after": (("999", "success"),)}, "job dependency problem"),
    ],
)
def test_refusals(bench: Bench, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SubmitError, match=text) as info:
        bench.submit(**fields)
    assert not info.value.retryable
    assert text in info.value.output
    assert bench.cell.jobs() == {}


def test_too_many_jobs_is_a_matter_of_time(bench: Bench, cell: Cell) -> None:
    cell.configure(max_jobs=1, paused=True)
    bench.submit()
    with pytest.raises(SubmitError, match="try again later") as info:
        bench.submit()
    assert info.value.retryable


def test_what_the_dialect_cannot_say_is_refused_before(scheduler: CommandScheduler) -> None:
    def check(**fields: Any) -> None:
        scheduler.check(JobDescription(argv=("x",), **fields))

    cases: dict[str, dict[str, Any]] = {
        "reservation": {"reservation": "r"},
        "exclusive": {"resources": Resources(exclusive=True)},
        "soft_walltime": {"limits": Limits(soft_walltime_s=5)},
        "deadline_at": {"deadline_at": 1e10},
        "email": {"email": ("a@b",)},
        "immediate": {"immediate": True},
        "launcher": {"launcher": "nonesuch"},
    }
    for name, fields in cases.items():
        with pytest.raises(UnsupportedAttribute, match="standin cannot honour") as info:
            check(**fields)
        assert (info.value.field, info.value.scheduler) == (name, "standin")
    check(priority=0, resources=Resources(nodes=1, gpus=0), limits=Limits(core_bytes=0, open_files=100))
    with pytest.raises(ValueError, match="use directory instead"):
        check(native=("--chdir=/tmp",))
    with pytest.raises(ValueError, match="at least one task"):
        scheduler.check(JobDescription(argv=("x",)), kind=Kind.ARRAY, tasks=0)
    with pytest.raises(ValueError, match="max_running must be 1"):
        scheduler.check(JobDescription(argv=("x",)), kind=Kind.ARRAY, tasks=2, max_running=0)


# Order --------------------------------------------------------------------------------------------------------------


def test_priority_then_first_come(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=1, paused=True)
    order = bench.folder / "order"
    ids = [bench.submit(f'echo {priority} >> "{order}"', priority=priority) for priority in (0, 5, -5, 5)]
    cell.configure(paused=False)
    for native_id in ids:
        bench.until(native_id, "COMPLETED")
    assert order.read_text().split() == ["5", "5", "0", "-5"]


def test_begin_time(bench: Bench) -> None:
    begin = time.time() + 2
    native_id = bench.submit(begin_at=begin)
    row = bench.rows()[native_id]
    assert (row.state, row.by, row.reason) == (JobState.HELD, By.SYSTEM, "BeginTime")
    row = bench.until(native_id, "COMPLETED")
    assert (row.began_at or 0) >= begin - 0.002


@pytest.mark.parametrize(
    ("when", "code", "word"),
    [
        ("success", 0, "COMPLETED"),
        ("success", 1, "DEPENDENCY"),
        ("failure", 1, "COMPLETED"),
        ("failure", 0, "DEPENDENCY"),
        ("any", 0, "COMPLETED"),
        ("any", 1, "COMPLETED"),
    ],
)
def test_dependencies(bench: Bench, when: str, code: int, word: str) -> None:
    wait, go = gate(bench.folder)
    first = bench.submit(f"{wait}; exit {code}")
    second = bench.submit(after=((first, when),))
    row = bench.rows()[second]
    assert (row.state, row.by, row.reason) == (JobState.HELD, By.SYSTEM, "Dependency")
    go()
    row = bench.until(second, "COMPLETED", "DEPENDENCY")
    assert row.native_state == word
    if word == "DEPENDENCY":
        assert row.ending is not None
        assert (row.ending.cause, row.ending.aborted, row.attempt) == (Cause.DEPENDENCY, True, None)
        assert first in row.ending.message


# Arrays -------------------------------------------------------------------------------------------------------------


def test_array_tasks_get_their_index_and_ids(bench: Bench) -> None:
    indices = (1, 3, 5, 7, 20, 4)
    submission = bench.make("exit $STANDIN_TASK", kind=Kind.ARRAY, indices=indices)
    accepted = bench.accept(submission)
    assert accepted.native_ids == tuple(f"{accepted.array_id}.{index}" for index in indices)
    for native_id, index in zip(accepted.native_ids, indices, strict=True):
        row = bench.until(native_id, "FAILED")
        assert row.ending is not None
        assert row.ending.exit_code == index
        assert row.token == submission.token
    assert len(bench.scheduler.account([accepted.array_id or ""]).rows) == len(indices)


def test_an_arrays_cap_is_kept(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=8)
    folder = bench.folder
    script = f'cd "{folder}"; touch run.$STANDIN_TASK; ls | grep -c "^run" >> seen; sleep 0.03; rm run.$STANDIN_TASK'
    accepted = bench.accept(bench.make(script, kind=Kind.ARRAY, indices=tuple(range(8)), max_running=2))
    for native_id in accepted.native_ids:
        bench.until(native_id, "COMPLETED")
    counts = [int(word) for word in (folder / "seen").read_text().split()]
    assert len(counts) == 8
    assert max(counts) == 2


def test_an_array_too_large_is_refused(bench: Bench, cell: Cell) -> None:
    cell.configure(max_array=100, max_index=500)
    assert bench.scheduler.limits().max_array_size == 100
    with pytest.raises(SubmitError, match="array of more than 100 tasks"):
        bench.submit(kind=Kind.ARRAY, indices=tuple(range(101)))
    with pytest.raises(SubmitError, match="index 501 is larger"):
        bench.submit(kind=Kind.ARRAY, indices=(1, 501))


def test_a_thousand_like_jobs_are_one_command(bench: Bench, cell: Cell) -> None:
    cell.configure(paused=True)
    accepted = bench.accept(bench.make(kind=Kind.LIKE, indices=tuple(range(1000))))
    assert len(set(accepted.native_ids)) == 1000
    assert bench.scheduler.commands_run["submit"] == 1
    assert len(bench.rows()) == 1000


# Control ------------------------------------------------------------------------------------------------------------


def control(bench: Bench, action: Action, *ids: str, number: int | None = None) -> list[type | None]:
    answers = bench.scheduler.control(action, ids, signal=number)
    assert list(answers) == list(ids)
    return [None if answer is None else type(answer) for answer in answers.values()]


def test_hold_and_release(bench: Bench, cell: Cell) -> None:
    native_id = bench.submit(hold=True)
    row = bench.rows()[native_id]
    assert (row.state, row.by) == (JobState.HELD, By.USER)
    cell.operate("hold", native_id)
    assert bench.rows()[native_id].by is By.BOTH
    assert control(bench, Action.RELEASE, native_id) == [None]
    assert bench.rows()[native_id].by is By.SYSTEM
    assert control(bench, Action.RELEASE, native_id) == [NotPermitted]
    cell.operate("release", native_id)
    bench.until(native_id, "COMPLETED")
    assert control(bench, Action.HOLD, native_id, "77") == [WrongState, UnknownJob]


def test_hold_of_a_waiting_job(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=1)
    wait, go = gate(bench.folder)
    running = bench.submit(wait)
    bench.until(running, "RUNNING")
    waiting = bench.submit()
    assert control(bench, Action.HOLD, waiting, running) == [None, WrongState]
    go()
    bench.until(running, "COMPLETED")
    assert bench.rows()[waiting].native_state == "HELD_USER"
    assert control(bench, Action.RELEASE, waiting) == [None]
    bench.until(waiting, "COMPLETED")


def test_suspend_stops_the_whole_job(bench: Bench) -> None:
    submission = bench.make("sleep 600 & echo $! > pid; mv pid ready; wait")
    native_id = bench.accept(submission).native_ids[0]
    ready = Path(submission.folder) / "ready"
    eventually(lambda: ready.exists() or None, "the job began")
    child = int(ready.read_text())
    assert control(bench, Action.RESUME, native_id) == [WrongState]
    assert control(bench, Action.SUSPEND, native_id) == [None]
    row = bench.rows()[native_id]
    assert (row.state, row.by) == (JobState.SUSPENDED, By.USER)
    eventually(lambda: process_state(child) == "T" or None, "it stopped")
    assert control(bench, Action.SUSPEND, native_id) == [WrongState]
    assert control(bench, Action.RESUME, native_id) == [None]
    assert bench.rows()[native_id].state is JobState.RUNNING
    eventually(lambda: process_state(child) == "S" or None, "it goes on")
    control(bench, Action.SUSPEND, native_id)
    assert control(bench, Action.CANCEL, native_id) == [None]
    bench.until(native_id, "CANCELLED")
    assert_gone(child)


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_cancel_in_each_state(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=2, kill_grace_s=1.5)
    polite = bench.submit('trap "exit 7" TERM; touch polite; while :; do sleep 0.02; done')
    deaf = bench.submit('trap "" TERM; touch deaf; while :; do sleep 0.02; done')
    eventually(lambda: len(list(bench.folder.glob("*/polite"))) + len(list(bench.folder.glob("*/deaf"))) == 2 or None, "both run")
    waiting = bench.submit()
    held = bench.submit(hold=True)
    assert control(bench, Action.CANCEL, waiting, held, polite, deaf, "55") == [None, None, None, None, UnknownJob]
    endings = {native_id: bench.until(native_id, "CANCELLED").ending for native_id in (polite, deaf, waiting, held)}
    assert all(ending is not None and ending.cause is Cause.CANCELLED for ending in endings.values())
    told = {native_id: (e.exit_code, e.signal, e.aborted) for native_id, e in endings.items() if e is not None}
    assert told == {polite: (7, None, False), deaf: (None, "SIGKILL", False), waiting: (None, None, True), held: (None, None, True)}
    assert control(bench, Action.CANCEL, polite) == [WrongState]


def test_one_command_controls_all_and_an_array_id_means_all_tasks(bench: Bench, cell: Cell) -> None:
    cell.configure(paused=True)
    accepted = bench.accept(bench.make(kind=Kind.ARRAY, indices=tuple(range(500))))
    assert set(control(bench, Action.HOLD, *accepted.native_ids)) == {None}
    assert bench.scheduler.commands_run["control"] == 1
    assert {row.native_state for row in bench.rows().values()} == {"HELD_USER"}
    assert control(bench, Action.CANCEL, accepted.array_id or "") == [None]
    assert {row.native_state for row in bench.rows().values()} == {"CANCELLED"}


def test_signals_reach_the_jobs_group(bench: Bench) -> None:
    native_id = bench.submit('trap "echo got >> log" USR1; touch ready; while [ ! -e log ]; do sleep 0.02; done; exit 5')
    eventually(lambda: list(bench.folder.glob("*/ready")) or None, "it runs")
    assert control(bench, Action.SIGNAL, native_id, number=signal.SIGUSR1) == [None]
    row = bench.until(native_id, "FAILED", "SIGNALED")
    assert row.ending is not None


def test_requeue_only_of_what_may_run_again(bench: Bench, cell: Cell) -> None:
    script = 'echo $STANDIN_RUN >> runs; touch ready; [ "$STANDIN_RUN" = 2 ] || exec sleep 600'
    again, once = bench.submit(script, rerunnable=True), bench.submit(script)
    eventually(lambda: len(list(bench.folder.glob("*/ready"))) == 2 or None, "both run")
    assert control(bench, Action.REQUEUE, again, once) == [None, NotPermitted]
    row = bench.until(again, "COMPLETED")
    assert row.attempt == 2
    cell.operate("requeue", once)
    assert bench.until(once, "COMPLETED").attempt == 2
    assert sorted(path.read_text() for path in bench.folder.glob("*/runs")) == ["1\n2\n", "1\n2\n"]


def test_a_node_that_fails(bench: Bench, cell: Cell) -> None:
    native_id = bench.submit("exec sleep 600")
    bench.until(native_id, "RUNNING")
    cell.operate("fail-node", native_id)
    row = bench.until(native_id, "NODE_FAIL")
    assert row.ending is not None
    assert row.ending.cause is Cause.NODE


# What queue and accounting say, and when ----------------------------------------------------------------------------


def test_lag_and_purge(bench: Bench, cell: Cell) -> None:
    cell.configure(queue_lag_s=3600)
    native_id = bench.submit()
    assert bench.rows() == {}
    cell.configure(queue_lag_s=0, account_lag_s=3600)
    bench.until(native_id, "COMPLETED")
    assert bench.scheduler.account([native_id]).rows == ()
    cell.configure(account_lag_s=0, linger_s=0)
    assert bench.rows() == {}
    assert [row.native_state for row in bench.scheduler.account([native_id]).rows] == ["COMPLETED"]


def test_no_accounting(bench: Bench, cell: Cell) -> None:
    cell.configure(accounting=False)
    submission = bench.make()
    native_id = bench.accept(submission).native_ids[0]
    bench.until(native_id, "COMPLETED")
    answer = bench.scheduler.account([native_id])
    assert (answer.rows, answer.complete) == ((), False)
    assert bench.scheduler.find([submission])[submission.token].native_ids == (native_id,)


def test_native_ids_used_again(bench: Bench, cell: Cell) -> None:
    first = bench.make("exit 3")
    assert bench.accept(first).native_ids == ("1",)
    bench.until("1", "FAILED")
    cell.next_number(1)
    second = bench.make("exit 0")
    assert bench.accept(second).native_ids == ("1",)
    assert bench.until("1", "COMPLETED").token == second.token


def test_find_knows_tokens_in_queue_and_accounting(bench: Bench, cell: Cell) -> None:
    cell.configure(linger_s=0)
    ended = bench.make()
    native_id = bench.accept(ended).native_ids[0]
    eventually(lambda: bench.scheduler.account([native_id]).rows or None, "it ended")
    held = bench.make(hold=True, kind=Kind.ARRAY, indices=(2, 4))
    accepted = bench.accept(held)
    unknown = bench.make()
    found = bench.scheduler.find([ended, held, unknown])
    assert found == {ended.token: type(accepted)((native_id,)), held.token: accepted}
    assert bench.scheduler.find([]) == {}


def test_listed_and_version(bench: Bench) -> None:
    ids = {bench.submit(hold=True) for _ in range(3)}
    assert {row.native_id for row in bench.scheduler.listed()} == ids
    assert bench.scheduler.version() == bench.scheduler.version() == "standin 1.0"
    assert bench.scheduler.commands_run["version"] == 1


# The server ---------------------------------------------------------------------------------------------------------


def test_kill_9_of_the_server_loses_no_waiting_job_and_invents_no_ending(bench: Bench, cell: Cell) -> None:
    cell.configure(slots=1)
    wait, go = gate(bench.folder)
    running = bench.submit(f"{wait}; exit 5")
    bench.until(running, "RUNNING")
    waiting = bench.submit("exit 6")
    ended_meanwhile = bench.rows()
    assert set(ended_meanwhile) == {running, waiting}
    cell.crash()
    assert bench.rows()[running].native_state == "RUNNING"
    go()
    row = bench.until(running, "LOST")
    assert row.ending is not None
    assert (row.ending.cause, row.ending.exit_code) == (Cause.UNKNOWN, None)
    assert bench.until(waiting, "FAILED").ended
    cell.crash()
    rows = bench.rows()
    assert {native_id: row.native_state for native_id, row in rows.items()} == {running: "LOST", waiting: "FAILED"}


def test_two_first_commands_start_one_server(tmp_path: Path) -> None:
    cell = install(tmp_path / "cell")
    commands = [subprocess.Popen([cell.bin / "standin-queue"], stdout=subprocess.PIPE) for _ in range(6)]
    outputs = [command.communicate(timeout=60)[0] for command in commands]
    try:
        assert all(output.endswith(b"END 0\n") for output in outputs)
        servers = [path for path in Path("/proc").glob("[0-9]*/cmdline") if os.fsencode(cell.folder) in words_of(path)]
        assert len(servers) == 1
    finally:
        cell.stop()


def words_of(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def server_pid(cell: Cell) -> int:
    return int((cell.folder / "server.pid").read_text())


def test_an_idle_server_ends_and_the_next_command_finds_all_again(bench: Bench, cell: Cell) -> None:
    native_id = bench.submit("exit 4")
    bench.until(native_id, "FAILED")
    held = bench.submit(hold=True)
    pid = server_pid(cell)
    cell.configure(idle_s=0.0)
    assert_gone(pid)
    rows = bench.rows()
    assert (rows[native_id].native_state, rows[held].native_state) == ("FAILED", "HELD_USER")


def test_a_removed_cell_takes_server_and_jobs_with_it(tmp_path: Path) -> None:
    import shutil

    cell = install(tmp_path / "cell")
    bench = Bench(cell, standin_scheduler(cell), tmp_path / "jobs")
    submission = bench.make("echo $$ > pid; mv pid ready; exec sleep 600")
    bench.accept(submission)
    ready = Path(submission.folder) / "ready"
    eventually(lambda: ready.exists() or None, "it runs")
    pid = server_pid(cell)
    shutil.rmtree(cell.folder)
    assert_gone(pid)
    assert_gone(int(ready.read_text()))


def test_stop_ends_jobs_and_server(bench: Bench, cell: Cell) -> None:
    submission = bench.make("echo $$ > pid; mv pid ready; exec sleep 600")
    bench.accept(submission)
    ready = Path(submission.folder) / "ready"
    eventually(lambda: ready.exists() or None, "it runs")
    pid = server_pid(cell)
    cell.stop()
    assert not Path(f"/proc/{pid}").exists() or process_state(pid) == "Z"
    assert_gone(int(ready.read_text()))
    cell.stop()


def test_a_cell_in_a_folder_with_a_long_hostile_name(tmp_path: Path) -> None:
    with install(tmp_path / ("x" * 200 + " $'\"é")) as cell:
        bench = Bench(cell, standin_scheduler(cell), tmp_path / "jobs")
        bench.until(bench.submit(), "COMPLETED")
        assert cell.contact.startswith("standin?cell=%2F")


def test_commands_cost_little_beyond_the_start_of_python(bench: Bench, cell: Cell) -> None:
    cell.configure(paused=True)
    submissions = [bench.make() for _ in range(15)]
    plain, commands = [], []
    for submission in submissions:
        began = time.perf_counter()
        subprocess.run([os.path.realpath(sys.executable), "-IS", "-c", "pass"], check=True)
        middle = time.perf_counter()
        bench.accept(submission)
        commands.append(time.perf_counter() - middle)
        plain.append(middle - began)
    assert min(commands) < 3 * min(plain)  # the quickest: a loaded machine delays it least


def test_the_programs_import_the_standard_library_alone() -> None:
    for path in PROGRAMS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path.name} reaches out of its folder"
                names = [node.module or ""] if node.level == 0 else []
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names, path.name


# Opened by its name -------------------------------------------------------------------------------------------------


def test_opened_by_contact_and_by_path(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = open_standin(tmp_path, {"cell": str(cell.folder)})
    assert scheduler.version() == "standin 1.0"
    monkeypatch.setenv("PATH", f"{cell.bin}:{os.environ['PATH']}")
    assert open_standin(tmp_path, {}).listed() == ()
    with pytest.raises(NoScheduler, match=r"no cell in .*/nothing; .*install"):
        open_standin(tmp_path, {"cell": str(tmp_path / "nothing")})
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoScheduler, match="standin-submit is not on PATH"):
        open_standin(tmp_path, {})


def test_real_jobs_through_the_real_shepherd(cell: Cell, tmp_path: Path) -> None:
    scheduler = standin_scheduler(cell)
    bench = Bench(cell, scheduler, tmp_path / "jobs")
    with WorkRoot(str(tmp_path)) as root:
        root.deploy()
        word = "a b\n$(x)'\"\udcff"
        description = JobDescription(
            argv=("/bin/sh", "-c", 'printf %s "$1"; exit 5', "sh", word), directory=str(tmp_path), inherit=Inherit.NODE
        )
        token = new_token()
        from jobyard.schedulers.base import Submission

        submission = Submission(token=token, folder=root.folder(token), description=description)
        files = {**job_files(submission, scheduler.dialect.traits, nonce=new_token()), **scheduler.prepare(submission)}
        root.create(token, files)
        row = bench.until(scheduler.submit(submission).native_ids[0], "FAILED")
        assert row.ending is not None
        assert row.ending.exit_code == 5
        folder = Path(submission.folder)
        assert (folder / "stdout").read_bytes() == os.fsencode(word)
        assert (folder / "receipt.0.1.end.json").exists()
        assert (folder / "batch.log").read_text() == ""
