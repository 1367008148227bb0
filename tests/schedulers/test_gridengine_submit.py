"""What a description becomes on qsub's command line, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from jobyard.description import describe
from jobyard.errors import InvalidJob, UnsupportedAttribute
from jobyard.job import After, JobDescription
from jobyard.schedulers.base import Action, Kind, Submission
from jobyard.schedulers.checks import check_capabilities
from jobyard.schedulers.gridengine import Choices, GridEngineDialect
from jobyard.schedulers.gridengine.submit import shown_name
from schedulers.gridengine_samples import sample

TOKEN = "ab" * 16
SITE = GridEngineDialect().parse_site(sample("site"))
GIB = 1 << 30


def dialect(**choices: Any) -> GridEngineDialect:
    return GridEngineDialect(Choices(**choices), SITE)


def argv(
    description: JobDescription, *, after: tuple[tuple[str, str], ...] = (), folder: str = f"/w/{TOKEN}", **choices: Any
) -> list[str]:
    one = dialect(**choices)
    check_capabilities(one.name, one.capabilities, description, kind=Kind.SINGLE, tasks=1, max_running=None)
    one.check(description, kind=Kind.SINGLE, tasks=1, max_running=None)
    submission = Submission(token=TOKEN, folder=folder, description=description, after=after)
    return list(one.submit_command(submission, f"{folder}/run.sh").argv)


def values(words: list[str], option: str) -> list[str]:
    """What stands behind each such option."""
    return [words[n + 1] for n, word in enumerate(words[:-1]) if word == option]


def array(indices: tuple[int, ...], kind: Kind = Kind.ARRAY, max_running: int | None = None) -> list[str]:
    submission = Submission(
        token=TOKEN, folder=f"/w/{TOKEN}", description=describe(["x"]), kind=kind, indices=indices, max_running=max_running
    )
    return list(dialect().submit_command(submission, "/w/run.sh").argv)


# What belongs to every job -----------------------------------------------------------------------------------------------


def test_a_plain_job() -> None:
    words = argv(describe(["/bin/true"]))
    assert words[0] == "qsub"
    assert words[-1] == f"/w/{TOKEN}/run.sh"
    assert values(words, "-wd") == [f"/w/{TOKEN}"], "its last part is the token, which the queue shows"
    assert values(words, "-A") == [TOKEN], "which accounting shows"
    assert values(words, "-r") == ["n"]
    assert values(words, "-S") == ["/bin/sh"]
    assert values(words, "-sync") == ["n"]
    assert values(words, "-b") == ["n"]
    assert values(words, "-o") == [f":/w/{TOKEN}/batch.log"]
    assert "-terse" in words
    assert not {"-l", "-pe", "-t", "-h", "-a", "-hold_jid", "-q", "-P"} & set(words)


def test_times_do_not_depend_on_zones_and_texts_not_on_languages() -> None:
    one = dialect()
    submission = Submission(token=TOKEN, folder="/w", description=describe(["x"]))
    commands = [one.submit_command(submission, "s"), one.query_command(["1"]), one.account_command(["1"]), one.limits_command()]
    commands += [*one.find_commands([submission]), one.version_command(), one.site_command(), one.list_command()]
    commands += [command for command, _ in one.control_commands(Action.CANCEL, ["1"], signal=None)]
    for command in commands:
        assert command is not None
        assert command.environment == {"TZ": "UTC0", "LC_ALL": "C"}


@pytest.mark.parametrize("folder", ["/w,x/f", "/w$JOB_ID/f", "/w x/f", "/w\\x/f"])
def test_output_of_the_script_goes_where_qsub_cannot_misread_it(folder: str) -> None:
    """A comma begins a second path there, a dollar a variable."""
    words = argv(describe(["x"]), folder=folder)
    assert values(words, "-o") == ["/dev/null"]
    assert values(words, "-wd") == [folder]


def test_the_users_options_come_first_untouched() -> None:
    native = ("-l", "lonely,h='a b'", "-soft", "-q", "x.q", "-notify", "-m", "n", "weird; $(rm)")
    words = argv(describe(["x"], native=native, walltime=60))
    assert tuple(words[1 : 1 + len(native)]) == native
    rest = words[1 + len(native) :]
    assert rest[0] == "-hard", "what the user asks for softly must not soften ours"
    assert values(rest, "-l") == ["h_rt=60"]


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("-wd", "directory"),
        ("-cwd", "directory"),
        ("-o", "stdout"),
        ("-e", "stderr"),
        ("-j", "join_streams"),
        ("-i", "stdin"),
        ("-t", "submit_array"),
        ("-tc", "max_running"),
        ("-r", "rerunnable"),
        ("-sync", "wait"),
        ("-b", "script"),
        ("-S", "interpreter"),
        ("-verify", "check"),
    ],
)
def test_options_of_the_engine_are_refused_by_name(option: str, instead: str) -> None:
    with pytest.raises(InvalidJob, match=option) as caught:
        argv(describe(["x"], native=(option, "y")))
    assert instead in str(caught.value)
    assert caught.value.field == "native"
    with pytest.raises(InvalidJob, match=instead):
        argv(describe(["x"], attributes={f"gridengine.{option[1:]}": "y"}))


def test_attributes() -> None:
    words = argv(
        describe(["x"], attributes={"gridengine.l": "mem_free=1G", "sge.R": "y", "slurm.constraint": "x", "GridEngine.V": ""})
    )
    assert words[1:6] == ["-l", "mem_free=1G", "-R", "y", "-V"]
    assert "constraint" not in " ".join(words)
    for key, value in (
        ("gridengine.l l", "x"),
        ("gridengine.", "x"),
        ("gridengine.l", "-q"),
        ("sge.pe", "-x"),
        ("sge.pe", "a b c"),
    ):
        with pytest.raises(InvalidJob) as caught:
            argv(describe(["x"], attributes={key: value}))
        assert caught.value.field == "attributes"


def test_an_account_string_of_the_users_is_left() -> None:
    """The token is then known by the working directory alone."""
    assert values(argv(describe(["x"], native=("-A", "mine"))), "-A") == ["mine"]
    assert values(argv(describe(["x"], attributes={"sge.A": "mine"})), "-A") == ["mine"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("job", "job"),
        ("a b", "a_b"),
        ("9to5", "_9to5"),
        ("a/b:c@d*e\\f?g", "a_b_c_d_e_f_g"),
        ("é\n\t", "___"),
        ("none", "_none"),
        ("All", "_All"),
        ("-x", "_-x"),
        ("$HOME", "_HOME"),
        ("x" * 600, "x" * 250),
    ],
)
def test_names(name: str, shown: str) -> None:
    """sge_types(1), object_name; what it refuses was tried on 8.1.9."""
    assert shown_name(name) == shown
    assert values(argv(describe(["x"], name=name)), "-N") == [shown]


def test_a_native_name_counts_where_no_other_is_given() -> None:
    assert values(argv(describe(["x"], native=("-N", "theirs"))), "-N") == ["theirs"]
    assert values(argv(describe(["x"], native=("-N", "theirs"), name="ours")), "-N") == ["theirs", "ours"]


def test_the_rest() -> None:
    words = argv(
        describe(
            ["x"],
            queue="all.q@node1",
            account="proj",
            reservation="12",
            priority=-5,
            begin_at=1795165688.2,
            hold=True,
            rerunnable=True,
            email=("a@b", "c@d"),
            email_on=("begin", "fail"),
            walltime="90.5s",
        ),
        after=(("7.3", "any"), ("7.4", "any"), ("8", "any")),
    )
    assert values(words, "-q") == ["all.q@node1"]
    assert values(words, "-P") == ["proj"]
    assert values(words, "-ar") == ["12"]
    assert values(words, "-p") == ["-5"]
    assert values(words, "-a") == ["202611200908.09"], "rounded up, in UTC"
    assert "-h" in words
    assert values(words, "-r") == ["y"]
    assert values(words, "-M") == ["a@b,c@d"]
    assert values(words, "-m") == ["ba"]
    assert values(words, "-l") == ["h_rt=91"]
    assert values(words, "-hold_jid") == ["7,8"], "a task cannot be waited for, its array can"
    assert "-a" not in argv(describe(["x"], begin_at=-5.0)), "long ago is now"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"begin_at": 2.0**32}, "begin_at"),
        ({"priority": 1025}, "priority"),
        ({"priority": -1024}, "priority"),
        ({"reservation": "name"}, "reservation"),
        ({"queue": "a,b"}, "queue"),
        ({"queue": "-x"}, "queue"),
        ({"account": ""}, "account"),
        ({"account": "a b"}, "account"),
        ({"email": ("a b",)}, "email"),
        ({"native": ("-pe", "smp", "4"), "cores": 2}, "native"),
        ({"deadline_at": 1e9}, "deadline_at"),
        ({"category": "big"}, "category"),
        ({"run_time": 60}, "run_time"),
        ({"soft_walltime": 60}, "soft_walltime"),
        ({"immediate": True}, "immediate"),
        ({"after": (After("t", "success"),)}, "after"),
    ],
)
def test_refused_before_anything_is_sent(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        argv(describe(["x"], **fields))
    assert caught.value.field == field
    assert "gridengine" in str(caught.value)


def test_dependencies_say_what_it_has() -> None:
    with pytest.raises(UnsupportedAttribute, match="'any'"):
        argv(describe(["x"], after=(After("t", "failure"),)))
    argv(describe(["x"], after=(After("t", "any"),)))


# Arrays --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "sent", "positions"),
    [
        ((1, 2, 3), "1-3:1", False),
        ((2, 4, 6), "2-6:2", False),
        ((5,), "5-5:1", False),
        ((0, 1, 2), "1-3:1", True),
        ((-1, 1), "1-2:1", True),
        ((1, 2, 4), "1-3:1", True),
        ((3, 2, 1), "1-3:1", True),
    ],
)
def test_indices(indices: tuple[int, ...], sent: str, positions: bool) -> None:
    """One range with one step, from 1 on; anything else is sent as positions, of which the shepherd makes indices again."""
    words = array(indices)
    assert values(words, "-t") == [sent]
    submission = Submission(token=TOKEN, folder="/w", description=describe(["x"]), kind=Kind.ARRAY, indices=indices)
    traits = dialect().traits_of(submission)
    assert (traits.positions, traits.index_offset) == ((True, 1) if positions else (False, 0))
    accepted = dialect().parse_submit(sample("qsub-array"), submission)
    shown = [int(native_id.partition(".")[2]) for native_id in accepted.native_ids]
    assert shown == (list(range(1, len(indices) + 1)) if positions else list(indices))


def test_like_jobs_and_caps() -> None:
    words = array((0, 1, 2), Kind.LIKE)
    assert values(words, "-t") == ["1-3:1"]
    assert "-tc" not in words
    assert values(array((1, 2), max_running=7), "-tc") == ["7"]


# Resources -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "choices", "wanted"),
    [
        ({"cores": 1}, {}, []),
        ({"cores": 4}, {}, ["smp", "4"]),
        ({"processes": 3, "cores": 2}, {}, ["smp", "6"]),
        ({"processes": 4}, {}, ["smp", "4"]),
        ({"processes": 4, "launcher": "mpirun"}, {}, ["mpi", "4"]),
        ({"processes": 4, "nodes": 1, "launcher": "mpirun"}, {}, ["smp", "4"]),
        ({"cores": 4}, {"environment": "mpi"}, ["mpi", "4"]),
        ({"cores": 4, "attributes": {"sge.pe": "mpi"}}, {"environment": "smp"}, ["mpi", "4"]),
        ({"attributes": {"gridengine.pe": "mpi 2-8"}}, {}, ["mpi", "2-8"]),
    ],
)
def test_parallel_environments(fields: dict[str, Any], choices: dict[str, Any], wanted: list[str]) -> None:
    words = argv(describe(["x"], **fields), **choices)
    at = words.index("-pe") if "-pe" in words else None
    assert ([] if at is None else words[at + 1 : at + 3]) == wanted


@pytest.mark.parametrize(
    ("fields", "choices", "field"),
    [
        ({"nodes": 2, "processes_per_node": 2}, {}, "nodes"),
        ({"cores": 65}, {}, "cores"),
        ({"processes": 65}, {}, "processes"),
        ({"cores": 2}, {"environment": "nosuch"}, "cores"),
        ({"nodes": 2, "processes_per_node": 2}, {"environment": "mpi"}, "nodes"),
    ],
)
def test_layouts_that_no_environment_gives(fields: dict[str, Any], choices: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedAttribute) as caught:
        argv(describe(["x"], **fields), **choices)
    assert caught.value.field == field
    assert "mpi ($round_robin, 64 slots), smp ($pe_slots, 64 slots)" in str(caught.value)


def test_fixed_layouts() -> None:
    text = sample("site").stdout.replace(b"$round_robin", b"2")
    site = GridEngineDialect().parse_site(sample("site").__class__(argv=(), returncode=0, stdout=text))
    one = GridEngineDialect(Choices(), site)
    description = describe(["x"], nodes=3, processes_per_node=2)
    one.check(description, kind=Kind.SINGLE, tasks=1, max_running=None)
    words = one.submit_command(Submission(token=TOKEN, folder="/w", description=description), "s").argv
    assert words[words.index("-pe") + 1 :][:2] == ("mpi", "6")
    with pytest.raises(UnsupportedAttribute, match="3 nodes of 1 slots"):
        one.check(describe(["x"], nodes=3), kind=Kind.SINGLE, tasks=1, max_running=None)


@pytest.mark.parametrize(
    ("fields", "choices", "wanted"),
    [
        ({"memory": 1}, {}, "h_vmem=1K"),
        ({"memory": GIB}, {}, "h_vmem=1048576K"),
        ({"memory": GIB, "cores": 3}, {}, "h_vmem=349526K"),
        ({"memory": GIB}, {"memory": "mem_free"}, "mem_free=1048576K"),
        ({"gpus": 2}, {}, "gpu=2"),
        ({"gpus": 1, "processes": 3}, {}, "gpu=1"),
        ({"exclusive": True}, {}, "exclusive=true"),
    ],
)
def test_requests(fields: dict[str, Any], choices: dict[str, Any], wanted: str) -> None:
    """Memory and GPUs are asked for by the slot; memory is rounded up, never to zero."""
    assert values(argv(describe(["x"], **fields), **choices), "-l") == [wanted]


@pytest.mark.parametrize(
    ("fields", "choices", "field"),
    [
        ({"memory": 1}, {"memory": "nosuch"}, "memory_bytes"),
        ({"gpus": 1}, {"gpu": "nosuch"}, "gpus"),
        ({"gpus": 1}, {"gpu": "h_rt"}, "gpus"),
        ({"gpus": 1, "cores": 2}, {}, "gpus"),
    ],
)
def test_requests_that_the_site_does_not_know(fields: dict[str, Any], choices: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedAttribute) as caught:
        argv(describe(["x"], **fields), **choices)
    assert caught.value.field == field


def test_what_this_release_promises() -> None:
    can = GridEngineDialect.capabilities
    assert can.actions == frozenset(Action) - {Action.SIGNAL}
    assert can.dependencies == {"any"}
    assert GridEngineDialect.traits.exit_map == {"99": 1, "100": 1}
