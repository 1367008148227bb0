"""Submitting: one, many, mixed; bad input refused before anything is written."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from jobyard import JobDescription, JobState, Resources, Session
from jobyard.errors import InvalidJob, UnknownJob, UnsupportedAttribute

from .. import jobs
from .support import Features, assert_names, finish, refuses

_BAD: list[tuple[str, Any, dict[str, Any]]] = [
    ("argv", [], {}),
    ("argv", [""], {}),
    ("argv", ["/bin/echo", "a\0b"], {}),
    ("argv", ["/bin/echo", object()], {}),
    ("argv", "echo not a shell", {}),
    ("argv", 17, {}),
    ("memory", jobs.succeed(), {"memory": "3 flurb"}),
    ("memory", jobs.succeed(), {"memory": -1}),
    ("cores", jobs.succeed(), {"cores": 0}),
    ("cores", jobs.succeed(), {"cores": 1.5}),
    ("gpus", jobs.succeed(), {"gpus": -1}),
    ("walltime", jobs.succeed(), {"walltime": "soon"}),
    ("walltime", jobs.succeed(), {"walltime": 0}),
    ("walltime", jobs.succeed(), {"walltime": float("nan")}),
    ("environment", jobs.succeed(), {"environment": {"A=B": "c"}}),
    ("environment", jobs.succeed(), {"environment": {"A": "b\0c"}}),
    ("environment", jobs.succeed(), {"environment": {"": "c"}}),
    ("stdout", jobs.succeed(), {"stdout": "a\0b"}),
    ("stdout", jobs.succeed(), {"stdout": ""}),
    ("stderr", jobs.succeed(), {"stderr": "here", "join_streams": True}),
    ("name", jobs.succeed(), {"name": 5}),
    ("inherit", jobs.succeed(), {"inherit": "everything"}),
    ("begin_at", jobs.succeed(), {"begin_at": "tomorrow"}),
    ("priority", jobs.succeed(), {"priority": "high"}),
    ("after", jobs.succeed(), {"after": ["0" * 32, 5]}),
    ("processes", jobs.succeed(), {"nodes": 2, "processes_per_node": 2, "processes": 5}),
]

HOSTILE_NAMES = ["a b", "it's", 'say "x"', "$HOME", "-name", "a;b", "new\nline", "a/b", "ünï", "#", "x" * 200]


class Submit:
    """Submitting jobs."""

    def test_one_job(self, session: Session, features: Features) -> None:
        before = time.time()
        job = session.submit(jobs.succeed(), name="answer")
        assert job.name == "answer"
        assert job.native_id
        assert re.fullmatch(r"[0-9a-zA-Z._-]+", job.token)
        assert job.array is None
        assert job.task_index is None
        ending = finish(job, features)
        assert ending.success
        assert ending.exit_code == 0
        assert job.state is JobState.DONE
        assert job.ending == ending
        assert not job.reaped
        assert before - features.clock_slack_s <= job.submitted_at <= time.time() + features.clock_slack_s

    def test_the_description_is_kept(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.exit_with(0), name="kept", environment={"A": "b"}, directory=tmp_path, tags={"mine": "x y"})
        kept = job.description
        assert kept.argv == tuple(jobs.exit_with(0))
        assert kept.name == "kept"
        assert kept.environment["A"] == "b"
        assert kept.directory == str(tmp_path)
        assert kept.tags == {"mine": "x y"}
        assert finish(job, features).success

    def test_a_description_and_changes(self, session: Session, features: Features) -> None:
        base = JobDescription(argv=tuple(jobs.exit_with(3)), name="base")
        first, second = session.submit(base), session.submit(base, name="other")
        assert (first.name, second.name) == ("base", "other")
        assert [finish(job, features).exit_code for job in (first, second)] == [3, 3]

    def test_the_callers_directory_is_the_default(
        self, session: Session, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        job = session.submit(jobs.report(tmp_path / "seen"))
        finish(job, features).check()
        directory, _, _ = jobs.read_report(tmp_path / "seen")
        if features.remote:
            assert os.path.basename(directory) == b"work"
        else:
            assert os.path.samefile(directory, tmp_path)

    def test_many_like_jobs(self, session: Session, features: Features) -> None:
        many = session.submit_all([jobs.succeed()] * features.many)
        assert len({job.token for job in many}) == len({job.native_id for job in many}) == features.many
        endings = session.wait_all(many, timeout=features.deadline_s + features.many * 0.2)
        assert [ending.exit_code for ending in endings] == [0] * features.many
        assert [job.token for job in session.jobs()] == [job.token for job in many]

    def test_like_jobs_differ_in_what_the_scheduler_does_not_see(
        self, session: Session, features: Features, tmp_path: Path
    ) -> None:
        items = [
            JobDescription(
                argv=tuple(jobs.report(tmp_path / f"seen{n}", str(n))), environment={"N": str(n)}, directory=str(tmp_path)
            )
            for n in range(5)
        ]
        for job in session.submit_all(items):
            finish(job, features).check()
        for n in range(5):
            _, words, environment = jobs.read_report(tmp_path / f"seen{n}")
            assert words == [b"%d" % n]
            assert environment[b"N"] == b"%d" % n
            assert b"JOBYARD_TASK_INDEX" not in environment

    def test_mixed_jobs_keep_their_order(self, session: Session, features: Features) -> None:
        codes = [0, 7, 0, 3, 255]
        items = [
            JobDescription(argv=tuple(jobs.exit_with(code)), resources=Resources(cores=1) if n % 2 else Resources(), name=f"j{n}")
            for n, code in enumerate(codes)
        ]
        mixed = session.submit_all(items)
        assert [job.name for job in mixed] == ["j0", "j1", "j2", "j3", "j4"]
        assert [ending.exit_code for ending in session.wait_all(mixed, timeout=features.deadline_s + features.poll_s)] == codes

    def test_common_fields_of_many(self, session: Session, features: Features, tmp_path: Path) -> None:
        first, second = session.submit_all([jobs.exit_with(1), jobs.exit_with(2)], name="common", directory=tmp_path)
        assert first.name == second.name == "common"
        assert first.description.directory == str(tmp_path)
        assert [finish(job, features).exit_code for job in (first, second)] == [1, 2]

    def test_none_is_no_job(self, session: Session) -> None:
        assert session.submit_all([]) == []
        assert session.jobs() == []

    @pytest.mark.parametrize(("field", "command", "fields"), _BAD, ids=[f"{n}-{bad[0]}" for n, bad in enumerate(_BAD)])
    def test_bad_input_is_refused(self, session: Session, field: str, command: Any, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidJob) as caught:
            session.submit(command, **fields)
        assert (caught.value.field or "").removesuffix("_s").removesuffix("_bytes") == field
        with pytest.raises(InvalidJob):
            session.check(command, **fields)
        assert session.jobs() == []

    def test_one_bad_of_many_refuses_all(self, session: Session, tmp_path: Path) -> None:
        with pytest.raises(InvalidJob) as caught:
            session.submit_all([jobs.append(tmp_path / "log", "good"), ["/bin/echo", "bad\0"]])
        assert caught.value.field == "argv"
        assert session.jobs() == []
        assert not (tmp_path / "log").exists()

    def test_an_unknown_keyword_is_named_with_the_nearest(self, session: Session) -> None:
        with pytest.raises(InvalidJob, match="did you mean walltime") as caught:
            session.submit(jobs.succeed(), waltime="1m")
        assert caught.value.field == "waltime"

    def test_a_dependency_on_no_job(self, session: Session, features: Features) -> None:
        if not features.capabilities.dependencies:
            with refuses(features, "after"):
                session.submit(jobs.succeed(), after="0" * 32)
            return
        with pytest.raises((UnknownJob, InvalidJob)):
            session.submit(jobs.succeed(), after="0" * 32)
        assert session.jobs() == []

    @pytest.mark.parametrize("attribute", ["gpus", "memory_bytes", "reservation", "queue", "account", "deadline_at", "email"])
    def test_what_cannot_be_honoured_is_refused_by_name(self, session: Session, features: Features, attribute: str) -> None:
        values: dict[str, dict[str, Any]] = {
            "gpus": {"gpus": 1},
            "memory_bytes": {"memory": "64MiB"},
            "reservation": {"reservation": "r1"},
            "queue": {"queue": "q1"},
            "account": {"account": "a1"},
            "deadline_at": {"deadline_at": time.time() + 3600},
            "email": {"email": ["nobody@example.org"]},
        }
        fields = values[attribute]
        if not features.honours(attribute):
            with refuses(features, attribute):
                session.submit(jobs.succeed(), **fields)
            assert session.jobs() == []
            return
        try:  # honoured: the same words pass the check, or name a value (not the attribute) that this site does not have
            session.check(jobs.succeed(), **fields)
        except InvalidJob as error:
            if isinstance(error, UnsupportedAttribute):
                pytest.fail(f"{attribute} is declared as honoured: {error}")
            assert_names(error, attribute)

    def test_hostile_names(self, session: Session, features: Features) -> None:
        """A name is kept as written, or refused before anything is sent, naming the field; never changed in silence."""
        kept = []
        for name in HOSTILE_NAMES:
            try:
                kept.append((name, session.submit(jobs.succeed(), name=name)))
            except InvalidJob as error:
                assert_names(error, "name")
        for kept_name, job in kept:
            assert job.name == kept_name
            finish(job, features).check()
        assert len(session.jobs()) == len(kept)
