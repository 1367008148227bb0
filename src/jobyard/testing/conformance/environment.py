"""The environment of jobs, and that every byte of arguments, environment and paths arrives unchanged."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobyard import JobDescription, Session
from jobyard.job import Inherit

from .. import jobs
from .support import Features, client, finish, refuses

# What a shell or the kernel sets by itself is no inheritance, nor what binds a job to its devices, or keeps it from others'.
_OWN = {
    *(b"PWD", b"OLDPWD", b"SHLVL", b"_", b"CUDA_VISIBLE_DEVICES", b"NVIDIA_VISIBLE_DEVICES", b"GPU_DEVICE_ORDINAL"),
    *(b"ROCR_VISIBLE_DEVICES", b"HIP_VISIBLE_DEVICES", b"ZE_AFFINITY_MASK"),
}


def _seen(path: Path) -> dict[bytes, bytes]:
    return jobs.read_report(path)[2]


def _bare(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: value for key, value in environment.items() if not key.startswith(b"JOBYARD_") and key not in _OWN}


class Environment:
    """What a job finds in its environment."""

    @pytest.mark.parametrize("inherit", list(Inherit), ids=[str(inherit) for inherit in Inherit])
    def test_what_is_inherited(
        self, session: Session, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherit: Inherit
    ) -> None:
        monkeypatch.setenv("CONFORMANCE_CLIENT", "mine")
        monkeypatch.setenv("CONFORMANCE_BOTH", "the client's")
        given_ = {"CONFORMANCE_BOTH": "the job's", "CONFORMANCE_OWN": "x=y z"}
        if inherit is not Inherit.CLIENT and not features.honours("inherit"):
            with refuses(features, "inherit"):
                session.submit(jobs.succeed(), inherit=inherit)
            return
        job = session.submit(jobs.report(tmp_path / "seen"), environment=given_, inherit=inherit)
        finish(job, features).check()
        seen = _seen(tmp_path / "seen")
        assert seen[b"CONFORMANCE_BOTH"] == b"the job's"
        assert seen[b"CONFORMANCE_OWN"] == b"x=y z"
        if inherit is Inherit.CLIENT:
            assert seen[b"CONFORMANCE_CLIENT"] == b"mine"
        else:
            assert b"CONFORMANCE_CLIENT" not in seen
        if inherit is Inherit.NODE:
            for name in (b"HOME", b"PATH", b"USER", b"LOGNAME", b"SHELL"):
                assert seen.get(name), f"{name!r} is missing"
        if inherit is Inherit.NONE:
            assert _bare(seen) == {key.encode(): value.encode() for key, value in given_.items()}

    def test_the_ids_of_a_job(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.report(tmp_path / "seen"))
        finish(job, features).check()
        seen = _seen(tmp_path / "seen")
        assert seen[b"JOBYARD_JOB_ID"].decode() == job.token
        assert seen[b"JOBYARD_NATIVE_ID"].decode() == job.native_id
        assert b"JOBYARD_ARRAY_ID" not in seen
        assert b"JOBYARD_TASK_INDEX" not in seen

    def test_ids_of_an_outer_job_are_not_passed_on(
        self, session: Session, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job that submits jobs: theirs are their own."""
        monkeypatch.setenv("JOBYARD_JOB_ID", "outer")
        monkeypatch.setenv("JOBYARD_TASK_INDEX", "99")
        monkeypatch.setenv("JOBYARD_ARRAY_ID", "outer")
        job = session.submit(jobs.report(tmp_path / "seen"), inherit="client")
        finish(job, features).check()
        seen = _seen(tmp_path / "seen")
        assert seen[b"JOBYARD_JOB_ID"].decode() == job.token
        assert b"JOBYARD_TASK_INDEX" not in seen
        assert b"JOBYARD_ARRAY_ID" not in seen

    def test_the_client_as_it_is_at_each_submission(
        self, session: Session, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the first client had, or the scheduler was started with, does not leak into later jobs."""
        monkeypatch.setenv("CONFORMANCE_EARLY", "leaked")
        first = session.submit(jobs.report(tmp_path / "first"), inherit="client")
        finish(first, features).check()
        monkeypatch.delenv("CONFORMANCE_EARLY")
        monkeypatch.setenv("CONFORMANCE_LATE", "now")
        second = session.submit(jobs.report(tmp_path / "second"), inherit="client")
        third = session.submit(jobs.report(tmp_path / "third"), inherit="node")
        finish(second, features).check()
        finish(third, features).check()
        assert _seen(tmp_path / "first")[b"CONFORMANCE_EARLY"] == b"leaked"
        assert b"CONFORMANCE_EARLY" not in _seen(tmp_path / "second")
        assert _seen(tmp_path / "second")[b"CONFORMANCE_LATE"] == b"now"
        assert not [name for name in _seen(tmp_path / "third") if name.startswith(b"CONFORMANCE_")]

    def test_a_client_in_another_process(self, session: Session, features: Features, tmp_path: Path) -> None:
        """Each client's jobs get the environment of that client, whoever started the scheduler."""
        program = """
os.environ["CONFORMANCE_OTHER"] = "theirs"
from jobyard.testing import jobs
with Session(arguments[0]) as session:
    session.submit(jobs.report(arguments[1]), inherit="client").wait(arguments[2]).check()
say(True)
"""
        client(program, features.contact, str(tmp_path / "theirs"), features.deadline_s, timeout_s=features.deadline_s + 30)
        finish(session.submit(jobs.report(tmp_path / "ours"), inherit="client"), features).check()
        assert _seen(tmp_path / "theirs")[b"CONFORMANCE_OTHER"] == b"theirs"
        assert b"CONFORMANCE_OTHER" not in _seen(tmp_path / "ours")


WORDS = [
    b"",
    b" ",
    b"a b",
    b"'",
    b'"',
    b"\\",
    b"$HOME",
    b"`id`",
    b"$(id)",
    b"a\nb",
    b"\n",
    b"\t",
    b"\r",
    b"*",
    b"~",
    b"-n",
    b"--",
    b"%s%d",
    b"a=b",
    b"#",
    b";&|<>",
    b"!",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"\x01\x1b[0m",
    b"\\n",
    b"${JOBYARD_TASK_INDEX}",
    b"\x7f",
]
_byte_strings = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"")) | st.sampled_from(WORDS)
_names = st.from_regex(rb"[A-Za-z_][A-Za-z0-9_.%-]{0,12}", fullmatch=True).filter(
    lambda name: not name.startswith((b"JOBYARD_", b"LC_")) and name not in _OWN
)


class HostileBytes:
    """Every byte arrives unchanged, and nothing is ever given to a shell."""

    def _round_trip(
        self, session: Session, features: Features, folder: Path, cases: list[tuple[list[bytes], dict[bytes, bytes]]]
    ) -> None:
        items = [
            JobDescription(
                argv=(*jobs.report(folder / f"seen{n}"), *(os.fsdecode(word) for word in words)),
                environment={os.fsdecode(key): os.fsdecode(value) for key, value in environment.items()},
            )
            for n, (words, environment) in enumerate(cases)
        ]
        many = session.submit_all(items)
        for ending in session.wait_all(many, timeout=features.deadline_s + features.poll_s + len(many)):
            ending.check()
        for n, (words, environment) in enumerate(cases):
            directory, seen_words, seen = jobs.read_report(folder / f"seen{n}")
            assert seen_words == words
            assert {key: seen.get(key) for key in environment} == environment
            if features.remote:
                assert b"/work" in directory[directory.rindex(b"/") :]
            else:
                assert directory == os.fsencode(os.getcwd())

    def test_arguments(self, session: Session, features: Features, tmp_path: Path) -> None:
        self._round_trip(session, features, tmp_path, [(WORDS, {}), ([b""], {}), ([b"", b"", b"x", b""], {})])

    def test_environment(self, session: Session, features: Features, tmp_path: Path) -> None:
        environment = {b"CONFORMANCE_%d" % n: word for n, word in enumerate(WORDS)}
        odd_names = {b"with-dash": b"1", b"with.dot": b"2", b"%odd": b"3", b"with blank": b"4", b"\xff": b"5"}
        self._round_trip(session, features, tmp_path, [([], environment), ([], odd_names)])

    def test_large_values(self, session: Session, features: Features, tmp_path: Path) -> None:
        large = (b"0123456789 '\"$\\\n=" * 7000)[:100_000]
        self._round_trip(session, features, tmp_path, [([large], {b"CONFORMANCE_LARGE": large})])

    def test_many_arguments(self, session: Session, features: Features, tmp_path: Path) -> None:
        self._round_trip(session, features, tmp_path, [([b"%d" % n for n in range(5000)], {})])

    def test_directories(self, session: Session, features: Features, tmp_path: Path) -> None:
        for n, word in enumerate([b"a b", b"it's", b"$HOME", b"new\nline", b"\xff\xfe", b"-x", b"a=b;c"]):
            folder = tmp_path / os.fsdecode(word)
            folder.mkdir()
            finish(session.submit(jobs.report(tmp_path / f"seen{n}"), directory=folder), features).check()
            assert jobs.read_report(tmp_path / f"seen{n}")[0] == os.fsencode(folder)

    def test_any_bytes(self, session: Session, features: Features, tmp_path: Path) -> None:
        """Random bytes, twenty jobs in one submission; hypothesis makes a failing case small."""

        @settings(
            max_examples=3,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        )
        @given(
            st.lists(
                st.tuples(st.lists(_byte_strings, max_size=6), st.dictionaries(_names, _byte_strings, max_size=4)),
                min_size=20,
                max_size=20,
            )
        )
        def round_trip(cases: list[tuple[list[bytes], dict[bytes, bytes]]]) -> None:
            self._round_trip(session, features, Path(mkdtemp(dir=tmp_path)), cases)

        round_trip()

    def test_names_are_shown_as_they_are(self, session: Session, features: Features, tmp_path: Path) -> None:
        """A name never reaches a shell: the file that it would make is not made."""
        marker = tmp_path / "marker"
        job = session.submit(jobs.succeed(), name=f"$(touch {marker.name})", directory=tmp_path)
        finish(job, features).check()
        assert not marker.exists()
