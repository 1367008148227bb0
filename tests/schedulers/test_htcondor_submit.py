"""What is sent to HTCondor: the submit description, what is refused before it, and the commands. No scheduler is needed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobyard.contact import Contact
from jobyard.errors import (
    ControlError,
    InvalidContact,
    InvalidJob,
    NotPermitted,
    SchedulerUnavailable,
    SubmitError,
    UnsupportedAttribute,
)
from jobyard.job import After, JobDescription, Limits, Resources
from jobyard.schedulers.base import Action, Kind, Result, Submission
from jobyard.schedulers.command import CommandScheduler
from jobyard.schedulers.htcondor import HTCondorDialect
from jobyard.transports.local import LocalTransport

DIALECT = HTCondorDialect()
TOKEN = "0123456789abcdef" * 2
FOLDER = f"/work/{TOKEN}"


def submission(kind: Kind = Kind.SINGLE, count: int = 3, folder: str = FOLDER, cap: int | None = None, **fields: Any) -> Submission:
    indices = () if kind is Kind.SINGLE else tuple(range(5, 5 + count))
    description = JobDescription(**{"argv": ("/bin/x",), **fields})
    return Submission(token=TOKEN, folder=folder, description=description, kind=kind, indices=indices, max_running=cap)


def text(one: Submission) -> str:
    command = DIALECT.submit_command(one, f"{one.folder}/run.sh")
    return command.stdin.decode("utf-8", "surrogateescape")


def lines(one: Submission) -> dict[str, str]:
    """The description's commands; the last is the queue statement."""
    *commands, queue = text(one).splitlines()
    found = dict(line.split(" = ", 1) for line in commands)
    assert len(found) == len(commands)
    return {**found, "queue": queue.removeprefix("queue ")}


def check(**fields: Any) -> None:
    scheduler = CommandScheduler(DIALECT, LocalTransport())
    scheduler.check(JobDescription(**{"argv": ("/bin/x",), **fields}))


# The description ------------------------------------------------------------------------------------------------------


def test_a_plain_job() -> None:
    found = lines(submission(name="mine"))
    policy, reason = found.pop("periodic_remove"), found.pop("+PeriodicRemoveReason")
    assert found == {
        "universe": "vanilla",
        "executable": f"{FOLDER}/run.sh",
        "arguments": "$(Process)",
        "initialdir": FOLDER,
        "transfer_executable": "False",
        "should_transfer_files": "NO",
        "output": f"{FOLDER}/batch.log",
        "error": f"{FOLDER}/batch.log",
        "getenv": "False",
        "environment": '"CONDOR_JOB_ID=$(Cluster).$(Process)"',
        "notification": "Never",
        "+JobBatchName": '"mine"',
        "+JobyardToken": f'"{TOKEN}"',
        "+JobyardOnce": "True",
        "request_cpus": "1",
        "queue": "1",
    }
    assert policy == "(JobStatus == 5 && member(HoldReasonCode, {6, 7, 8, 14, 34, 46, 47})) || (JobStatus == 1 && NumJobStarts > 0)"
    assert "jobyard: rerun" in reason
    command = DIALECT.submit_command(submission(), f"{FOLDER}/run.sh")
    assert command.argv == ("condor_submit", "-terse"), "no '-': it would print whole ads"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"resources": Resources(cores=3)}, {"request_cpus": "3"}),
        ({"resources": Resources(processes=4, cores=3)}, {"request_cpus": "12"}),
        ({"resources": Resources(processes_per_node=2)}, {"request_cpus": "2"}),
        ({"resources": Resources(nodes=1, processes=2, gpus=2)}, {"request_cpus": "2", "request_gpus": "4"}),
        ({"resources": Resources(memory_bytes=1)}, {"request_memory": "1"}),
        ({"resources": Resources(memory_bytes=1 << 20)}, {"request_memory": "1"}),
        ({"resources": Resources(memory_bytes=(1 << 20) + 1)}, {"request_memory": "2"}),
        ({"priority": -7}, {"priority": "-7"}),
        ({"account": "group_a.sub"}, {"accounting_group": "group_a.sub"}),
        ({"hold": True}, {"hold": "True"}),
        ({"limits": Limits(core_bytes=5000)}, {"coresize": "5000"}),
        (
            {"email": ("me@example.org", "you@example.org"), "email_on": ("end",)},
            {"notification": "Complete", "notify_user": "me@example.org,you@example.org"},
        ),
        ({"begin_at": 1e9 + 0.2}, {"+JobyardBeginAt": "1000000001", "requirements": "(time() >= 1000000001)"}),
        ({"attributes": {"htcondor.+ProjectName": '"x"', "slurm.constraint": "gpu"}}, {"+ProjectName": '"x"'}),
        ({"attributes": {"condor.request_disk": "1G"}}, {"request_disk": "1G"}),
        ({"attributes": {"htcondor.want_graceful_removal": ""}}, {"want_graceful_removal": "True"}),
        (
            {"attributes": {"htcondor.requirements": "HasX || true"}, "begin_at": 5e8},
            {"requirements": "(HasX || true) && (time() >= 500000000)"},
        ),
    ],
)  # fmt: skip
def test_what_a_job_asks_for(fields: dict[str, Any], wanted: dict[str, str]) -> None:
    check(**fields)
    found = lines(submission(**fields))
    assert {name: found[name] for name in wanted} == wanted
    assert not [name for name in found if name.startswith(("slurm", "htcondor", "condor"))]


def test_a_job_that_asks_for_nothing_gets_the_sites_defaults() -> None:
    found = lines(submission())
    assert not {"request_memory", "request_gpus", "priority", "accounting_group", "hold", "requirements", "coresize"} & set(found)


def test_walltime_counts_from_when_the_command_began() -> None:
    policy = lines(submission(limits=Limits(walltime_s=90.2)))["periodic_remove"]
    assert "JobCurrentStartExecutingDate >= JobCurrentStartDate && time() - JobCurrentStartExecutingDate > 91)" in policy
    assert "walltime: it ran for 91 s" in lines(submission(limits=Limits(walltime_s=90.2)))["+PeriodicRemoveReason"]


def test_a_job_that_may_run_again_is_not_removed_for_it() -> None:
    found = lines(submission(rerunnable=True))
    assert "NumJobStarts" not in found["periodic_remove"]
    assert "+JobyardOnce" not in found


def test_a_policy_of_ones_own_is_joined_with_ours() -> None:
    fields: dict[str, Any] = {"attributes": {"htcondor.periodic_remove": "NumJobStarts > 3"}, "deadline_at": 2e9}
    check(**fields)
    found = lines(submission(**fields))
    assert found["periodic_remove"].endswith(
        " || (time() >= 2000000000) || (JobStatus == 1 && NumJobStarts > 0) || (NumJobStarts > 3)"
    )
    assert found["+PeriodicRemoveReason"].endswith('"jobyard: policy: its own periodic_remove")))')


def test_arrays_are_queued_as_one() -> None:
    found = lines(submission(Kind.ARRAY, 3, cap=2))
    assert found["queue"] == "3"
    assert found["max_materialize"] == "2"
    assert found["environment"] == '"CONDOR_JOB_ID=$(Cluster).$(Process) CONDOR_CLUSTER_ID=$(Cluster)"'
    like = lines(submission(Kind.LIKE, 1000))
    assert like["queue"] == "1000"
    assert "max_materialize" not in like
    assert "CONDOR_CLUSTER_ID" not in like["environment"], "they are jobs of their own to their user"


def test_a_thousand_like_jobs_are_one_short_command() -> None:
    assert len(text(submission(Kind.LIKE, 1000))) < 2000


# Nothing of the user's is a command, a macro or an expression ---------------------------------------------------------


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
@settings(deadline=None)
def test_any_name(name: str) -> None:
    found = lines(submission(name=name)) if name else lines(submission())
    value = found["+JobBatchName"]
    assert value.startswith('"')
    assert value.endswith('"')
    inner = value[1:-1].replace("$(DOLLAR)", "")
    assert "$" not in inner
    assert not re.search(r'(?<!\\)"', inner), "a quote that ends the string"
    assert not inner.endswith("\\")
    assert found["queue"] == "1"


@pytest.mark.parametrize(
    ("name", "literal"),
    [
        ('a "b"', r'"a \"b\""'),
        ("$(Process) $ENV(HOME) $$(x)", '"$(DOLLAR)(Process) $(DOLLAR)ENV(HOME) $(DOLLAR)$(DOLLAR)(x)"'),
        ("two\nqueue 5", '"two?queue 5"'),
        ("back\\", '"back\\ "'),
        ('back\\"quote', r'"back\ \"quote"'),
        ("\udcff\tx", '"??x"'),
        ("é", '"é"'),
    ],
)
def test_names_as_they_are_sent(name: str, literal: str) -> None:
    assert lines(submission(name=name))["+JobBatchName"] == literal


@pytest.mark.parametrize("folder", ["/with space/'quote\"s", "/do$(llar)/$ENV(HOME)", "/non\udcffutf"])
def test_folders_as_they_are_sent(folder: str) -> None:
    found = lines(submission(folder=f"{folder}/{TOKEN}"))
    assert found["initialdir"] == f"{folder}/{TOKEN}".replace("$", "$(DOLLAR)")
    assert found["executable"] == f"{found['initialdir']}/run.sh"


@pytest.mark.parametrize("folder", ["/new\nline", "/\x01"])
def test_folders_that_no_description_can_hold(folder: str) -> None:
    with pytest.raises(InvalidJob, match="JOBYARD_WORK_DIR"):
        text(submission(folder=f"{folder}/{TOKEN}"))


# Refused before anything is sent --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resources": Resources(nodes=2)}, "nodes"),
        ({"resources": Resources(processes=4, processes_per_node=2)}, "nodes"),
        ({"resources": Resources(exclusive=True)}, "exclusive"),
        ({"limits": Limits(run_time_s=5)}, "run_time"),
        ({"limits": Limits(soft_walltime_s=5)}, "soft_walltime"),
        ({"queue": "long"}, "queue"),
        ({"reservation": "r"}, "reservation"),
        ({"after": (After("0" * 32),)}, "after"),
        ({"immediate": True}, "immediate"),
        ({"category": "x"}, "category"),
        ({"email": ("me@example.org",), "email_on": ("begin",)}, "email_on"),
        ({"email": ("me@example.org",), "email_on": ("end", "fail")}, "email_on"),
    ],
)
def test_what_it_cannot_honour(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedAttribute) as caught:
        check(**fields)
    assert caught.value.field == field
    assert caught.value.scheduler == "htcondor"
    assert "htcondor" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"account": "a b"}, "account"),
        ({"account": "x\nqueue 3"}, "account"),
        ({"priority": 2**31}, "priority"),
        ({"email": ("me@example.org\nqueue 3",), "email_on": ("end",)}, "email"),
        ({"attributes": {"htcondor.executable": "/bin/sh"}}, "attributes['htcondor.executable']"),
        ({"attributes": {"htcondor.+JobyardToken": '"x"'}}, "attributes['htcondor.+JobyardToken']"),
        ({"attributes": {"htcondor.MY.JobyardToken": '"x"'}}, "attributes['htcondor.MY.JobyardToken']"),
        ({"attributes": {"condor.Queue": "3"}}, "attributes['htcondor.Queue']"),
        ({"attributes": {"htcondor.request_disk": "1\nqueue 3"}}, "attributes['htcondor.request_disk']"),
        ({"attributes": {"htcondor.request_disk": "1 \\"}}, "attributes['htcondor.request_disk']"),
        ({"attributes": {"htcondor.no such": "1"}}, "attributes['htcondor.no such']"),
    ],
)
def test_values_that_cannot_stand_in_a_description(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "native",
    [
        ("-append", "queue 5"),
        ("-append", "queue = 5"),
        ("-a", "arguments = x"),
        ("-app", "initialdir=/"),
        ("-append", "request_cpus=2\nqueue"),
        ("-append",),
        ("-append", "+JobyardOnce = false"),
        ("-append", "periodic_remove = false"),
        ("-append", "+PeriodicRemove = false"),
        ("-append", 'MY.Cmd = "/bin/sh"'),
        ("-capabilities",),
        ("max_retries=3",),
        ("hold=true",),
        ("-name", "other"),
        ("-r", "other"),
        ("-spool",),
        ("-verbose",),
        ("-dry-run", "x"),
        ("-batch-name", "x"),
        ("my.sub",),
        ("-",),
        ("-debug", "x", "my.sub"),
        ("-queue", "3"),
    ],
)
def test_native_options_that_belong_to_the_engine(native: tuple[str, ...]) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(native=native)
    assert caught.value.field == "native"


@pytest.mark.parametrize(
    "native",
    [
        ("-append", "requirements = HasX"),
        ("-a", '+ProjectName = "it\'s"'),
        ("request_disk=5GB",),
        ("-debug",),
        ("-unused",),
        ("-nosuch", "argument"),
        ("-append", "rank = Memory", "-append", "request_memory = 5"),
    ],
)
def test_native_options_go_untouched(native: tuple[str, ...]) -> None:
    check(native=native)
    command = DIALECT.submit_command(submission(native=native), f"{FOLDER}/run.sh")
    assert command.argv == ("condor_submit", "-terse", *native)


def test_requirements_that_would_drop_a_begin_time() -> None:
    with pytest.raises(InvalidJob, match=r"htcondor\.requirements"):
        check(native=("-append", "requirements = HasX"), begin_at=2e9)


# Commands -------------------------------------------------------------------------------------------------------------


def test_one_query_for_all_and_for_the_caller_alone() -> None:
    command = DIALECT.query_command(["1.0", "2.3"])
    assert command.argv[:3] == ("condor_q", "-json", "-attributes")
    assert "1.0" not in command.argv
    assert command.environment == {"_CONDOR_CONDOR_Q_ONLY_MY_JOBS": "true"}
    assert DIALECT.list_command() == command


def test_history_by_id() -> None:
    command = DIALECT.account_command(["7.1", "-all", "x", "5.0"])
    assert command is not None
    assert command.argv[:3] == ("condor_history", "7.1", "5.0")
    assert command.argv[-2:] == ("-limit", "2")
    assert DIALECT.account_command(["zzz", "-all"]) is None, "it would take them for users, or options"
    many = DIALECT.account_command([f"{cluster}.{proc}" for cluster in (3, 4) for proc in range(4000)])
    assert many is not None
    assert many.argv[:3] == ("condor_history", "3", "4")


def test_another_schedd() -> None:
    other = HTCondorDialect(schedd="s@host", pool="pool.example.org")
    where = ("-pool", "pool.example.org", "-name", "s@host")
    for command in (
        other.query_command(()),
        other.account_command(["1.0"]),
        other.submit_command(submission(), "x"),
        other.control_commands(Action.CANCEL, ["1.0"], signal=None)[0][0],
        other.control_commands(Action.HOLD, ["1.0"], signal=None)[1][0],
        other.states_command(["1.0"]),
    ):
        assert command is not None
        at = command.argv.index("-pool")
        assert command.argv[at : at + 4] == where


@pytest.mark.parametrize("value", ["-all", "a b", "", "x,y", "$(HOME)"])
def test_no_name_of_a_schedd(value: str) -> None:
    with pytest.raises(InvalidContact):
        Contact(scheduler="htcondor", options={"schedd": value})


def test_many_are_cancelled_in_one_command() -> None:
    jobs = [f"{cluster}.0" for cluster in range(10, 1010)]
    ((command, concerned),) = DIALECT.control_commands(Action.CANCEL, jobs, signal=None)
    assert command.argv == ("condor_rm", *jobs)
    assert concerned == tuple(jobs)
    parts = DIALECT.control_commands(Action.CANCEL, [f"1.{proc}" for proc in range(4500)], signal=None)
    assert [len(concerned) for _, concerned in parts] == [2000, 2000, 500]


def test_a_capped_arrays_rest_goes_with_its_last_tasks() -> None:
    ((command, _),) = DIALECT.control_commands(Action.CANCEL, ["7.3", "7.4", "7.5", "7.1", "8.0"], signal=None)
    assert command.argv[-2:] == (
        "-constraint",
        "ProcId =?= undefined && ((ClusterId == 7 && TotalSubmitProcs == 6 && JobMaterializeNextProcId >= 3))",
    )


def test_a_running_job_is_never_held_and_one_that_may_run_once_never_vacated() -> None:
    for action, guard in (
        (Action.HOLD, "JobStatus == 1 && ("),
        (Action.REQUEUE, "JobStatus != 1 && JobyardOnce =!= true && ("),
    ):
        (command, nobody), (question, concerned) = DIALECT.control_commands(action, ["7.0", "7.1", "9.0", "bad"], signal=None)
        assert command.argv[1] == "-constraint"
        assert command.argv[2].startswith(guard)
        assert "(ClusterId == 7 && ((ProcId >= 0 && ProcId <= 1))) || (ClusterId == 9 && (ProcId == 0))" in command.argv[2]
        assert nobody == ()
        assert question.argv[0] == "condor_q"
        assert concerned == ("7.0", "7.1", "9.0")


def result(code: int = 0, out: str = "", err: str = "", program: str = "condor_x") -> Result:
    return Result(argv=(program,), returncode=code, stdout=out.encode(), stderr=err.encode())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Job 5.0 marked for removal", None),
        ("Job 5.0 already marked for removal", None),
        ("Permission denied to remove job 5.0", NotPermitted),
        ("Job 5.0 is in a strange mood", ControlError),
    ],
)
def test_answers_to_a_cancel(said: str, kind: type[ControlError] | None) -> None:
    answers = DIALECT.parse_control(Action.CANCEL, result(1, said), ["5.0"])
    assert (type(answers["5.0"]) if answers["5.0"] is not None else None) is kind


def test_others_jobs_in_an_answer_are_passed_over() -> None:
    answers = DIALECT.parse_control(Action.CANCEL, result(0, "Job 6.0 marked for removal\nJob 5.0 marked for removal"), ["5.0"])
    assert answers == {"5.0": None}
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_control(Action.CANCEL, result(0, "Job 6.0 marked for removal"), ["5.0"])


def test_a_full_queue_is_worth_trying_again() -> None:
    said = "\nERROR: Failed to create proc\nNumber of submitted jobs would exceed MAX_JOBS_PER_OWNER\n"
    with pytest.raises(SubmitError) as caught:
        DIALECT.parse_submit(result(1, err=said), submission())
    assert caught.value.retryable


@pytest.mark.parametrize("out", ["", "5.0", "5.0 - 6.0", "5.1 - 5.2", "5.0 - 5.0\n6.0 - 6.0", "05.0 - 05.0"])
def test_no_id_that_can_be_believed(out: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_submit(result(out=out), submission())


@pytest.mark.parametrize("out", ["", "2000", "2000\nmany", "2000\n100\n5"])
def test_no_limits_that_can_be_believed(out: str) -> None:
    with pytest.raises(SchedulerUnavailable):
        DIALECT.parse_limits(result(out=out))
