"""What sbatch is told, and what is refused before anything is sent. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.errors import InvalidJob, UnsupportedAttribute
from jobyard.job import Inherit, JobDescription, Limits, Resources
from jobyard.schedulers.base import Action, Kind, Submission
from jobyard.schedulers.slurm import SlurmDialect
from jobyard.schedulers.slurm.ids import expanded, is_id, ranges, words
from jobyard.schedulers.slurm.request import sbatch_options, sends_positions

DIALECT = SlurmDialect()
FOLDER = "/work/jobyard-1000/aa/" + "a" * 32


def submission(kind: Kind = Kind.SINGLE, indices: tuple[int, ...] = (), **fields: Any) -> Submission:
    rest = {name: fields.pop(name) for name in ("max_running", "after", "folder") if name in fields}
    description = JobDescription(argv=fields.pop("argv", ("/bin/true",)), **fields)
    folder = rest.pop("folder", FOLDER)
    return Submission(token="a" * 32, folder=folder, description=description, kind=kind, indices=indices, **rest)


def options(**fields: Any) -> dict[str, str | None]:
    """Options of the submission, by name."""
    made = sbatch_options(submission(**fields))
    return {name: value if mark else None for name, mark, value in (option.partition("=") for option in made)}


# What every job has -------------------------------------------------------------------------------------------------


def test_a_plain_job() -> None:
    command = DIALECT.submit_command(submission(), f"{FOLDER}/run.sh")
    assert command.argv == (
        "sbatch", "--job-name=true", f"--chdir={FOLDER}", f"--output={FOLDER}/batch.log", "--input=/dev/null", "--open-mode=append",
        "--export=NIL", "--no-requeue", "--parsable", f"{FOLDER}/run.sh",
    )  # fmt: skip
    assert "SBATCH_ARRAY_INX" in command.without
    assert DIALECT.directives(submission()) == ()


@pytest.mark.parametrize("name", ["a b", "x; rm -rf /", "$HOME", "new\nline", "-p", "", "%j", "caf\udce9"])
def test_names_travel_as_they_are(name: str) -> None:
    assert f"--job-name={name or 'true'}" in sbatch_options(submission(name=name or None))


def test_a_percent_sign_of_the_folder_is_none_of_slurms() -> None:
    made = options(folder="/w%j/" + "a" * 32)
    assert made["--output"] == "/w%%j/" + "a" * 32 + "/batch.log"
    assert made["--chdir"] == "/w%j/" + "a" * 32


def test_rerunnable() -> None:
    assert "--requeue" in options(rerunnable=True)
    assert "--no-requeue" not in options(rerunnable=True)


@pytest.mark.parametrize("inherit", list(Inherit))
def test_the_environment_never_travels_by_options(inherit: Inherit) -> None:
    assert options(inherit=inherit, environment={"A": "b"})["--export"] == "NIL"


# Resources ----------------------------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, {}),
        ({"cores": 4}, {"--cpus-per-task": "4"}),
        ({"processes": 6}, {"--ntasks": "6"}),
        ({"nodes": 2}, {"--nodes": "2", "--ntasks": "2"}),
        ({"nodes": 2, "processes": 8}, {"--nodes": "2", "--ntasks": "8"}),
        ({"nodes": 3, "processes_per_node": 2}, {"--nodes": "3", "--ntasks": "6", "--ntasks-per-node": "2"}),
        ({"processes": 8, "processes_per_node": 4}, {"--nodes": "2", "--ntasks": "8", "--ntasks-per-node": "4"}),
        ({"exclusive": True}, {"--exclusive": None}),
        ({"memory_bytes": 1}, {"--mem": "1M"}),
        ({"memory_bytes": MIB}, {"--mem": "1M"}),
        ({"memory_bytes": MIB + 1}, {"--mem": "2M"}),
        ({"memory_bytes": 10 * MIB, "nodes": 3}, {"--nodes": "3", "--ntasks": "3", "--mem": "4M"}),
        ({"memory_bytes": 10 * MIB, "processes": 4, "cores": 2}, {"--ntasks": "4", "--cpus-per-task": "2", "--mem-per-cpu": "2M"}),
        ({"gpus": 2}, {"--gres": "gpu:2"}),
        ({"gpus": 0}, {}),
        ({"gpus": 1, "nodes": 2, "processes_per_node": 3}, {
            "--nodes": "2", "--ntasks": "6", "--ntasks-per-node": "3", "--gres": "gpu:3",
        }),
        ({"gpus": 1, "processes": 5}, {"--ntasks": "5", "--gpus-per-task": "1"}),
    ],
)  # fmt: skip
def test_resources(resources: dict[str, Any], wanted: dict[str, str | None]) -> None:
    plain = options()
    assert {name: value for name, value in options(resources=Resources(**resources)).items() if name not in plain} == wanted


def test_gpus_need_a_layout() -> None:
    with pytest.raises(UnsupportedAttribute) as caught:
        DIALECT.check(
            JobDescription(argv=("x",), resources=Resources(gpus=1, nodes=2)), kind=Kind.SINGLE, tasks=1, max_running=None
        )
    assert caught.value.field == "gpus"


@pytest.mark.parametrize(("seconds", "minutes"), [(0.5, "1"), (60, "1"), (60.1, "2"), (3600, "60"), (86400 * 3, "4320")])
def test_walltime_is_rounded_up_to_minutes(seconds: float, minutes: str) -> None:
    assert options(limits=Limits(walltime_s=seconds))["--time"] == minutes


def test_placement() -> None:
    made = options(queue="long", account="chem", reservation="r", priority=-3, begin_at=1.2, deadline_at=9.9, hold=True)
    assert made["--partition"] == "long"
    assert made["--account"] == "chem"
    assert made["--reservation"] == "r"
    assert made["--nice"] == "3"
    assert made["--begin"] == "uts2", "never before"
    assert made["--deadline"] == "uts9", "never after"
    assert "--hold" in made
    assert "--nice" not in options(priority=0)


def test_email() -> None:
    assert options(email=("a@b", "c@d"))["--mail-user"] == "a@b,c@d"
    assert options(email=("a@b",))["--mail-type"] == "END,FAIL"
    assert options(email=("a@b",), email_on=("begin",))["--mail-type"] == "BEGIN"


def test_dependencies() -> None:
    made = options(after=(("1", "success"), ("2_3", "failure"), ("4", "any")))
    assert made["--dependency"] == "afterok:1,afternotok:2_3,afterany:4"
    assert made["--kill-on-invalid-dep"] == "yes"


# Native options and attributes --------------------------------------------------------------------------------------


def check(**fields: Any) -> None:
    DIALECT.check(JobDescription(argv=("x",), **fields), kind=Kind.SINGLE, tasks=1, max_running=None)


@pytest.mark.parametrize(
    "native",
    [
        ("--constraint=a&b",), ("-C", "a b"), ("-p", "debug", "-N", "2"), ("--gres", "gpu:1"), ("-Hv",), ("-N1",), ("--exclusive",),
        ("--nice", "--mem=0"), ("--signal=B:USR1@60",), ("--wait-all-nodes=1",), ("--exclude=n1",), ("-w", "n[1-3]"),
        ("--wckey=x",),
    ],
)  # fmt: skip
def test_native_options_go_first_and_untouched(native: tuple[str, ...]) -> None:
    check(native=native)
    assert tuple(sbatch_options(submission(native=native))[: len(native)]) == native


@pytest.mark.parametrize(
    ("native", "instead"),
    [
        (("--chdir=/x",), "directory"), (("-D", "/x"), "directory"), (("-D/x",), "directory"), (("--ch=/x",), "directory"),
        (("--array=1-3",), "submit_array"), (("-a", "1"), "submit_array"), (("--arr", "1"), "submit_array"),
        (("-o", "x"), "stdout"), (("--output=x",), "stdout"), (("-ex",), "stderr"), (("--wait",), "Job.wait"),
        (("-W",), "Job.wait"),
        (("-HW",), "Job.wait"), (("--requeue",), "rerunnable"), (("--no-requeue",), "rerunnable"), (("--wrap=x",), "argv"),
        (("--export=ALL",), "inherit"), (("--parsable",), "set"), (("--test-only",), "submitted"), (("-J", "x"), "name"),
        (("-p", "x", "-W"), "Job.wait"), (("-M", "all"), "SLURM_CLUSTERS"), (("--help",), "command"),
    ],
)  # fmt: skip
def test_the_engines_options_are_refused_by_name(native: tuple[str, ...], instead: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(native=native)
    assert caught.value.field == "native"
    assert instead in str(caught.value)


@pytest.mark.parametrize(
    "native",
    [("script.sh",), ("-p", "debug", "script.sh"), ("--exclusive", "x"), ("--mem=1", "x"), ("-H", "x"), ("--",), (":",), ("-",)],
)
def test_a_word_that_would_be_the_script_is_refused(native: tuple[str, ...]) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(native=native)
    assert caught.value.field == "native"


def test_attributes() -> None:
    attributes = {"slurm.constraint": "a b", "slurm.cpus_per_gpu": "2", "slurm.contiguous": "", "pbs.x": "no"}
    check(attributes=attributes)
    made = options(attributes=attributes)
    assert (made["--constraint"], made["--cpus-per-gpu"], made["--contiguous"]) == ("a b", "2", None)
    assert not [name for name in made if "pbs" in name]


@pytest.mark.parametrize("name", ["chdir", "array", "output", "wait", "no_requeue", "a b", "", "-x", "A", "x=y", "job-name"])
def test_attributes_that_are_none(name: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check(attributes={f"slurm.{name}": "1"})
    assert caught.value.field == "attributes"


# Arrays and ids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "positions", "option"),
    [
        ((1, 2, 3), False, "1-3"), ((0, 1), False, "0-1"), ((1, 3), True, "0-1"), ((5, 7, 9), True, "0-2"),
        (tuple(range(1001, 2001)), True, "0-999"), ((1,), False, "1"), ((2,), True, "0"), ((0, 1, 3), False, "0-1,3"),
    ],
)  # fmt: skip
def test_indices(indices: tuple[int, ...], positions: bool, option: str) -> None:
    array = submission(kind=Kind.ARRAY, indices=indices)
    assert sends_positions(array) is positions
    assert DIALECT.traits_of(array).positions is positions
    assert f"--array={option}" in sbatch_options(array)
    sent = range(len(indices)) if positions else indices
    assert max(sent) <= len(indices), "no index is over a limit that the number of tasks keeps to"


def test_a_cap() -> None:
    assert options(kind=Kind.ARRAY, indices=(1, 2, 3), max_running=2)["--array"] == "1-3%2"
    assert options(kind=Kind.LIKE, indices=(0, 1, 2))["--array"] == "0-2"


@given(st.sets(st.integers(0, 60), min_size=1, max_size=40))
def test_ranges_say_every_index_once(indices: set[int]) -> None:
    text = ranges(sorted(indices))
    assert expanded(f"7_[{text}]") == tuple(f"7_{index}" for index in sorted(indices))


@given(st.lists(st.tuples(st.integers(1, 3), st.one_of(st.none(), st.integers(0, 400))), max_size=60), st.integers(3, 40))
def test_words_name_every_id_once(pairs: list[tuple[int, int | None]], most: int) -> None:
    ids = [str(job) if task is None else f"{job}_{task}" for job, task in pairs]
    named = words(ids, most)
    assert sorted(one for _, members in named for one in members) == sorted(set(ids))
    for word, members in named:
        assert set(expanded(word)) == set(members)
        assert len(word) <= most + 20


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("12", ("12",)), ("12_3", ("12_3",)), ("12+1", ("12+1",)), ("12_[1-3,7%2]", ("12_1", "12_2", "12_3", "12_7")),
        ("12_[1-9:4]", ("12_1", "12_5", "12_9")), ("12_5-6", ("12_5", "12_6")), ("12_[3-1]", ()), ("12_[]", ()), ("x", ()),
        ("", ()),
        ("12_[1-]", ()), ("12_[0-99999999]", ()), ("-h", ()), ("12\n", ()), ("12_[1,,2]", ()), ("１２", ()),
    ],
)  # fmt: skip
def test_expanded(word: str, ids: tuple[str, ...]) -> None:
    assert expanded(word) == ids


def test_ids() -> None:
    assert is_id("1")
    assert is_id("1_0")
    assert not is_id("0")  # sacct --jobs=0 tells all jobs that there ever were
    assert not is_id("1_[2]")
    assert not is_id("no such job")


# Commands -----------------------------------------------------------------------------------------------------------


def test_one_command_for_many() -> None:
    ids = [f"7_{n}" for n in range(1, 5001)] + ["9", "10_4"]
    ((command, concerned),) = DIALECT.control_commands(Action.CANCEL, ids, signal=None)
    assert command.argv == ("scancel", "--verbose", "9", "7_[1-5000]", "10_4")
    assert sorted(concerned) == sorted(ids)


def test_commands_stay_below_the_kernels_limit() -> None:
    ids = [f"4000000000_{n}" for n in range(0, 200_000, 2)]
    made = DIALECT.control_commands(Action.HOLD, ids, signal=None)
    assert all(sum(len(word) for word in command.argv) < 110_000 for command, _ in made)
    assert [one for _, concerned in made for one in concerned] == ids


@pytest.mark.parametrize(
    ("action", "argv"),
    [
        (Action.HOLD, ("scontrol", "uhold", "7")),
        (Action.RELEASE, ("scontrol", "release", "7")),
        (Action.REQUEUE, ("scontrol", "requeue", "7")),
        (Action.SUSPEND, ("timeout", "3", "scancel", "--verbose", "--full", "--signal=19", "7")),
        (Action.RESUME, ("timeout", "3", "scancel", "--verbose", "--full", "--signal=18", "7")),
        (Action.SIGNAL, ("timeout", "3", "scancel", "--verbose", "--full", "--signal=12", "7")),
    ],
)
def test_controls(action: Action, argv: tuple[str, ...]) -> None:
    ((command, _),) = DIALECT.control_commands(action, ["7"], signal=12)
    assert command.argv == argv


def test_accounting_is_asked_for_whole_arrays_where_many_are_meant() -> None:
    command = DIALECT.account_command([*[f"7_{n}" for n in range(500)], "8_1", "9"])
    assert command is not None
    assert command.argv[-1] == "--jobs=7,8_1,9"
    assert DIALECT.account_command(["no such job", "-h"]) is None
