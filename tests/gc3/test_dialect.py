"""The hooks as a dialect, without any scheduler: what of what they say is believed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gc3.standin_backend import application
from gc3libs import Run
from gc3libs.backends._dialect import HookDialect, called, leading_comments
from gc3libs.backends._frames import Ask, frames, one_command
from gc3libs.backends._submitting import _body
from gc3libs.backends._words import ending_of, information, returncode_of
from gc3libs.backends.batch import BatchSystem
from gc3libs.exceptions import InternalError, UnexpectedJobState
from gc3libs.quantity import GB, Duration, Memory, hours
from jobyard import Cause, Ending, JobState, SchedulerUnavailable, SubmitError
from jobyard.fronts import Command, Result


def execute(command: Command) -> Result:
    done = subprocess.run(command.argv, input=command.stdin, capture_output=True, check=False)
    return Result(argv=command.argv, returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def system_of(**hooks: Any) -> Any:
    """A resource of a class with these hooks."""
    base = {
        "_stat_command": lambda self, job: f"echo status of {job.lrms_jobid}",
        "_parse_stat_output": lambda self, stdout, stderr: self._stat_result(Run.State.RUNNING, None),
        "_cancel_command": lambda self, jobid: f"echo {jobid}",
    }
    kind: Any = type("Made", (BatchSystem,), {**base, **hooks})
    return kind("made", {"x86_64"}, 1, 1, 1 * GB, 1 * hours, None, "localhost", "local")


def asked(system: Any, *ids: str) -> Any:
    dialect = HookDialect(system)
    return dialect.parse_query(execute(dialect.query_command(ids)))


def accounted(system: Any, *ids: str) -> Any:
    dialect = HookDialect(system)
    command = dialect.account_command(ids)
    assert command is not None
    return dialect.parse_account(execute(command))


# Frames -----------------------------------------------------------------------------------------------------------------------


def test_each_answer_is_its_own() -> None:
    command = one_command([
        Ask("stat", "1", "printf 'no newline'; printf err >&2; exit 3"),
        Ask("acct", "1", "echo asked", if_failed=True),
        Ask("stat", "2", "cat; echo \"it's\"; true"),
        Ask("acct", "2", "echo never", if_failed=True),
        Ask("stat", "3", "unbalanced ' quote"),
        Ask("stat", "4", "kill -9 $$"),
    ])  # fmt: skip
    found, complete = frames(execute(command))
    assert complete
    assert [(one.kind, one.native_id, one.code) for one in found] == [
        ("stat", "1", 3), ("acct", "1", 0), ("stat", "2", 0), ("stat", "3", 2), ("stat", "4", 137),
    ]  # fmt: skip
    assert (found[0].out, found[0].err, found[1].out, found[2].out) == ("no newline", "err", "asked\n", "it's\n")


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(deadline=None, max_examples=200)
def test_damaged_answers_lose_frames_and_nothing_else(noise: bytes, cut: int) -> None:
    command = one_command([Ask("stat", "1", "x"), Ask("stat", "22", "y")])
    mark = command.argv[-1]

    def stream(text: str) -> bytes:
        parts = [f"\n{mark} begin stat {one}\n{text}{one}\n\n{mark} end 0 stat {one}\n" for one in ("1", "22")]
        return ("".join(parts) + f"\n{mark} over\n").encode()

    whole = frames(Result(argv=command.argv, returncode=0, stdout=noise + stream("out"), stderr=noise + stream("err")))
    assert [(one.native_id, one.out, one.err) for one in whole[0]] == [("1", "out1\n", "err1\n"), ("22", "out22\n", "err22\n")]
    assert whole[1]
    part, complete = frames(Result(argv=command.argv, returncode=0, stdout=stream("out")[:cut], stderr=stream("err")))
    assert complete == (cut >= len(stream("out")))
    assert [one.native_id for one in part] in ([], ["1"], ["1", "22"])
    broken, _ = frames(Result(argv=command.argv, returncode=0, stdout=noise, stderr=noise))
    assert broken == []


# What status hooks say ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("SUBMITTED", JobState.QUEUED), ("NEW", JobState.QUEUED), ("RUNNING", JobState.RUNNING), ("STOPPED", JobState.HELD),
        ("UNKNOWN", None), ("anything", None), ("TERMINATING", "absent"), ("TERMINATED", "absent"),
    ],
)  # fmt: skip
def test_states(said: str, expected: Any) -> None:
    for form in (lambda self, *out: self._stat_result(said, None), lambda self, *out: said, lambda self, out: {"state": said}):
        answer = asked(system_of(_parse_stat_output=form), "1")
        assert answer.complete
        if expected == "absent":
            assert answer.rows == ()
        else:
            assert (answer.rows[0].state, answer.rows[0].native_state, answer.rows[0].ended) == (expected, said, False)


def test_an_ending_of_the_status_command() -> None:
    answer = asked(system_of(_parse_stat_output=lambda self, *out: self._stat_result(Run.State.TERMINATING, (0, 4))), "1")
    assert (answer.rows[0].ended, answer.rows[0].ending.exit_code) == (True, 4)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo 'squeue: error: Invalid job id specified' >&2; exit 1", "absent"),
        ("echo 'qstat: Unknown Job Id 5' >&2; exit 153", "absent"),
        ("echo 'Job <5> is not found' >&2; exit 255", "absent"),
        ("false", "absent"),  # grep found nothing
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "silent"),
        ("exit 2", "silent"),
        ("/no/such/qstat", "silent"),
        ("echo 'slurm_load_jobs: host not found' >&2; exit 1", "silent"),
        ("echo 'Following jobs do not exist:' 5; exit 1", "absent"),
        ("echo 'qstat: 5.server Job has finished, use -x' >&2; exit 35", "absent"),
        ("kill -9 $$", "silent"),
    ],
)
def test_a_status_command_that_fails(command: str, expected: str) -> None:
    system = system_of(_stat_command=lambda self, job: command)
    if expected == "silent":
        with pytest.raises(SchedulerUnavailable):
            asked(system, "5")
    else:
        assert (asked(system, "5").rows, asked(system, "5").complete) == ((), True)


def test_accounting_is_asked_along_with_a_status_command_that_fails() -> None:
    failing = {"_stat_command": lambda self, job: "echo busy >&2; exit 1", "_acct_command": lambda self, job: "echo 7"}
    ended = system_of(**failing, _parse_acct_output=lambda self, out, err: {"termstatus": (0, int(out))})
    assert asked(ended, "1").rows[0].ending.exit_code == 7
    unknown = system_of(**failing, _parse_acct_output=lambda self, out, err: {})
    assert (asked(unknown, "1").rows, asked(unknown, "1").complete) == ((), True)


def test_one_bad_answer_costs_one() -> None:
    def parse(self: Any, stdout: str, stderr: str) -> Any:
        if stdout.rsplit(maxsplit=1)[-1] == "2":
            raise ValueError("nonsense")
        return self._stat_result(Run.State.RUNNING, None)

    answer = asked(system_of(_parse_stat_output=parse), "1", "2", "3")
    assert [row.native_id for row in answer.rows] == ["1", "3"]
    assert not answer.complete
    assert "nonsense" in answer.unparsed[0]


def test_ids_are_exact() -> None:
    """12 is not 1234: each answer is that of its own question."""

    def parse(self: Any, stdout: str, stderr: str) -> Any:
        return self._stat_result("RUNNING" if stdout.rsplit(maxsplit=1)[-1] == "12" else "SUBMITTED", None)

    found = {row.native_id: row.state for row in asked(system_of(_parse_stat_output=parse), "12", "1234").rows}
    assert found == {"12": JobState.RUNNING, "1234": JobState.QUEUED}


def test_one_command_for_all() -> None:
    def parse(self: Any, stdout: str, stderr: str) -> Any:
        return dict.fromkeys(stdout.split(), (Run.State.RUNNING, None))

    hooks = {"_stat_all_command": lambda self, jobs: f"echo {len(jobs)} 99", "_parse_stat_all_output": parse}
    answer = asked(system_of(**hooks), "1", "2")
    assert {row.native_id for row in answer.rows} == {"2", "99"}
    with pytest.raises(SchedulerUnavailable):
        asked(system_of(**{**hooks, "_stat_all_command": lambda self, jobs: "exit 1"}), "1")
    answer = asked(system_of(**{**hooks, "_stat_all_command": lambda self, jobs: "echo 1; exit 1"}), "1", "2")
    assert not answer.complete  # some of it is there: what is not, may be missing


# Accounting ---------------------------------------------------------------------------------------------------------------------


def test_the_second_command_stands_in_for_the_first() -> None:
    hooks = {
        "_acct_command": lambda self, job: "echo 'unknown job' >&2; exit 1",
        "_parse_acct_output": lambda self, out, err: {},
        "_secondary_acct_command": lambda self, job: "echo 3",
        "_parse_secondary_acct_output": lambda self, out, err: {"termstatus": int(out) << 8, "cores": 2},
    }
    answer = accounted(system_of(**hooks), "1")
    assert (answer.rows[0].ending.exit_code, answer.complete) == (3, True)
    assert information(answer.rows[0].ending) == {"cores": 2}


@pytest.mark.parametrize(
    ("command", "parse", "outcome"),
    [
        ("echo x", lambda self, out, err: {}, "unknown"),
        ("echo x", lambda self, out, err: {"cores": 1}, "unknown"),
        ("echo 'error: job id 5 not found' >&2; exit 1", None, "unknown"),
        ("echo 'SLURM accounting storage is disabled' >&2; exit 1", None, "unknown"),
        ("/no/such/sacct", None, "unknown"),
        ("echo 'slurmdbd: connection refused' >&2; exit 1", None, "silent"),
        ("echo x", lambda self, out, err: 1 / 0, "silent"),
        ("echo x", lambda self, out, err: [1], "silent"),
        ("echo x", lambda self, out, err: {"termstatus": "x"}, "silent"),
        ("echo x", lambda self, out, err: {"termstatus": (Run.Signals.Lost, 0)}, "silent"),
    ],
)
def test_accounting_that_does_not_know(command: str, parse: Callable[..., Any] | None, outcome: str) -> None:
    system = system_of(_acct_command=lambda self, job: command, _parse_acct_output=parse or (lambda self, out, err: 1 / 0))
    if outcome == "silent":
        with pytest.raises(SchedulerUnavailable):
            accounted(system, "5")
    else:
        assert (accounted(system, "5").rows, accounted(system, "5").complete) == ((), True)


def test_a_state_that_is_not_final_is_no_ending() -> None:
    def parse(self: Any, out: str, err: str) -> Any:
        raise UnexpectedJobState("REQUEUED")

    assert accounted(system_of(_acct_command=lambda self, job: "true", _parse_acct_output=parse), "1").rows == ()


def test_no_accounting_at_all() -> None:
    dialect = HookDialect(system_of())
    assert dialect.account_command(["1"]) is None
    assert not dialect.capabilities.accounting


# Endings ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("termstatus", "cause", "returncode"),
    [
        (0, Cause.EXITED, (0, 0)), (256, Cause.EXITED, (0, 1)), ((9, -1), Cause.EXITED, (9, 255)),
        ((Run.Signals.Cancelled, 0), Cause.CANCELLED, (121, 75)), ((Run.Signals.RemoteKill, 75), Cause.UNKNOWN, (122, 75)),
        ((Run.Signals.RemoteError, 75), Cause.NODE, (124, 75)),
    ],
)  # fmt: skip
def test_termination_statuses(termstatus: Any, cause: Cause, returncode: tuple[int, int]) -> None:
    account = {"duration": Duration("90s"), "max_used_memory": Memory("3 MiB"), "site_key": "x", "when": object, "termstatus": 0}
    ending = ending_of(termstatus, account)
    assert ending.cause is cause
    signal, code = returncode_of(ending, shell=False)
    assert (signal, code & 255) == (returncode[0], returncode[1] & 255)
    found = information(ending)
    assert (found["duration"], found["max_used_memory"], found["site_key"]) == (Duration("90s"), Memory("3 MiB"), "x")


@pytest.mark.parametrize(
    ("cause", "signal"),
    [
        (Cause.CANCELLED, 121), (Cause.WALLTIME, 122), (Cause.MEMORY, 122), (Cause.CPU_TIME, 122), (Cause.PREEMPTED, 122),
        (Cause.NODE, 124), (Cause.REQUEUED, 124), (Cause.NOT_STARTED, 124), (Cause.SHEPHERD, 124), (Cause.STAGING, 123),
        (Cause.DEPENDENCY, 125), (Cause.REJECTED, 125), (Cause.LOST, 120), (Cause.UNKNOWN, 124), (Cause.LAUNCH_SCRIPT, 124),
    ],
)  # fmt: skip
def test_every_cause_has_its_pseudo_signal(cause: Cause, signal: int) -> None:
    assert returncode_of(Ending(state=JobState.FAILED, cause=cause), shell=False)[0] == signal


def test_every_cause_is_in_that_table() -> None:
    for cause in Cause:
        number, code = returncode_of(Ending(state=JobState.FAILED, cause=cause), shell=True)
        assert number or code, f"{cause} looks like success"


def test_preempted_with_exit_0_is_no_success() -> None:
    assert returncode_of(Ending(state=JobState.FAILED, cause=Cause.PREEMPTED, exit_code=0), shell=False) == (122, 75)


# Submission -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native_id", ["12", "12.server", "12[3]", "a-b_c@d:e+1"])
def test_ids_that_are_taken(native_id: str) -> None:
    dialect = HookDialect(system_of(_parse_submit_output=lambda self, out: out.strip()))
    assert dialect.accepted(0, native_id, "").native_ids == (native_id,)


@pytest.mark.parametrize("native_id", ["", "1 2", "1;id", "$(id)", "-1", "a\nb", "x" * 300, "None;"])
def test_ids_that_are_not(native_id: str) -> None:
    with pytest.raises(SchedulerUnavailable, match="cannot be the id"):
        HookDialect(system_of(_parse_submit_output=lambda self, out: native_id)).accepted(0, "", "")


def test_a_refusal_carries_what_was_said() -> None:
    with pytest.raises(SubmitError, match=r"exited with 3: one / two") as caught:
        HookDialect(system_of()).accepted(3, "", "one\ntwo\n")
    assert caught.value.output == "one\ntwo\n"


def test_the_id_in_what_a_command_printed() -> None:
    system = system_of()
    assert system.get_jobid_from_submit_output("Welcome\nSubmitted batch job 7 on x\n", r".*job (?P<jobid>\d+)") == "7"
    with pytest.raises(InternalError, match="Welcome"):
        system.get_jobid_from_submit_output("Welcome\n", r"(?P<jobid>\d+)")


@pytest.mark.parametrize(
    ("script", "alone"),
    [
        ('"/bin/true"', True), ('/usr/bin/env "A=b" "x"', True), ('"my prog" "a;b" "c|d"', True), ("srun -n 2 x", True),
        ("./x > out", False), ("a; b", False), ("a | b", False), ("cd /", False), ("A=1 x", False), ("exit 3", False),
        ("a\nb", False), ("$X", False), ("if true", False), ("(x)", False), ("unbalanced '", False), ("", False),
    ],
)  # fmt: skip
def test_when_the_program_takes_the_shells_place(script: str, alone: bool) -> None:
    body, found = _body(script)
    assert found is alone
    assert body.startswith("exec ") is alone


def test_directives() -> None:
    assert leading_comments("#!/bin/sh\n#PBS -l x\n# y\necho\n#PBS never\n") == ["#PBS -l x", "# y"]
    assert leading_comments("echo") == []


def test_hooks_with_fewer_parameters() -> None:
    assert called(lambda out: out, "a", "b") == "a"
    assert called(lambda out, err: out + err, "a", "b") == "ab"
    assert called(lambda *all_of_them: all_of_them, "a", "b") == ("a", "b")


@given(out=st.text(max_size=200), err=st.text(max_size=50), code=st.integers(0, 255))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_printed_raises_nothing_else(out: str, err: str, code: int) -> None:
    """Parsers of others on noise: a row, or no answer."""

    def parse(self: Any, stdout: str, stderr: str) -> Any:
        return self._stat_result(stdout.split("|")[1], int(stdout.split("|")[2]))

    dialect = HookDialect(system_of(_parse_stat_output=parse, _parse_submit_output=lambda self, text: text.split()[0]))
    mark = "jobyard-x"
    data = f"\n{mark} begin stat 1\n{out}\n{mark} end {code} stat 1\n\n{mark} over\n".encode("utf-8", "replace")
    said = f"\n{mark} begin stat 1\n{err}\n{mark} end {code} stat 1\n".encode("utf-8", "replace")
    try:
        dialect.parse_query(Result(argv=("sh", mark), returncode=0, stdout=data, stderr=said))
    except SchedulerUnavailable:
        pass
    try:
        dialect.accepted(code, out, err)
    except (SchedulerUnavailable, SubmitError):
        pass


def test_abstract_hooks_say_what_is_missing(tmp_path: Path) -> None:
    kind: Any = type("Bare", (BatchSystem,), {})
    bare = kind("bare", {"x86_64"}, 1, 1, 1 * GB, 1 * hours, None, "localhost", "local")
    with pytest.raises(NotImplementedError, match="Bare does not say _submit_command"):
        bare.submit_job(application(["x"], tmp_path))
