"""Standard input, output and error: where they go, and that nothing of them is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobyard import Job, Session
from jobyard.errors import UnsupportedAttribute

from .. import jobs
from .support import Features, finish, refuses

HOSTILE = {
    "blank": b"with a blank",
    "quotes": b'it\'s "quoted"',
    "dollar": b"$HOME `id` $(id)",
    "newline": b"new\nline",
    "backslash": b"back\\slash",
    "dash": b"-n",
    "glob": b"*?[a]",
    "percent": b"%j%A %1",
    "colon": b"host:path;x",
    "bytes": b"\xff\xfe not UTF-8",
}


class Streams:
    """Standard input, output and error."""

    def test_input_and_output(self, session: Session, features: Features, tmp_path: Path) -> None:
        (tmp_path / "in").write_bytes(b"first\nsecond\n\0\xff")
        job = session.submit(["/bin/cat"], stdin=tmp_path / "in", stdout=tmp_path / "out", stderr=tmp_path / "err")
        finish(job, features).check()
        assert (tmp_path / "out").read_bytes() == b"first\nsecond\n\0\xff"
        assert (tmp_path / "err").read_bytes() == b""
        assert job.stdout_path == str(tmp_path / "out")
        assert job.stderr_path == str(tmp_path / "err")

    def test_no_input_is_empty(self, session: Session, features: Features) -> None:
        job = session.submit(["/bin/cat"])
        finish(job, features).check()
        assert _kept(job) == (b"", b"")

    def test_relative_paths_lie_in_the_directory(self, session: Session, features: Features, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "in").write_text("here\n")
        job = session.submit(["/bin/cat"], directory=tmp_path, stdin="in", stdout="sub/out", stderr="./err")
        finish(job, features).check()
        assert (tmp_path / "sub" / "out").read_text() == "here\n"
        assert (tmp_path / "err").read_text() == ""
        assert job.stdout_path is not None
        assert os.path.samefile(job.stdout_path, tmp_path / "sub" / "out")

    def test_kept_by_default(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.shell("echo out; echo err >&2"))
        finish(job, features).check()
        assert _kept(job) == (b"out\n", b"err\n")
        job.reap()
        assert _kept(job) == (b"out\n", b"err\n")

    def test_kept_streams_do_not_lie_in_the_directory(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.shell("echo out"), directory=tmp_path)
        finish(job, features).check()
        assert list(tmp_path.iterdir()) == []

    def test_joined_streams_keep_their_order(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.shell("echo 1; echo 2 >&2; echo 3; echo 4 >&2"), stdout=tmp_path / "out", join_streams=True)
        finish(job, features).check()
        assert (tmp_path / "out").read_text() == "1\n2\n3\n4\n"

    def test_joined_streams_are_kept(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.shell("echo 1; echo 2 >&2; echo 3"), join_streams=True)
        finish(job, features).check()
        assert job.stdout_path is not None
        assert Path(job.stdout_path).read_text() == "1\n2\n3\n"

    def test_output_is_emptied_or_appended(self, session: Session, features: Features, tmp_path: Path) -> None:
        for name in ("fresh", "more"):
            (tmp_path / name).write_text("before\n")
        fresh = session.submit(jobs.shell("echo new"), stdout=tmp_path / "fresh", stderr="/dev/null")
        more = session.submit(jobs.shell("echo new"), stdout=tmp_path / "more", stderr="/dev/null", append_streams=True)
        finish(fresh, features).check()
        finish(more, features).check()
        assert (tmp_path / "fresh").read_text() == "new\n"
        assert (tmp_path / "more").read_text() == "before\nnew\n"

    def test_output_and_error_in_one_file_by_name(self, session: Session, features: Features, tmp_path: Path) -> None:
        """Given the same path twice, neither overwrites the other."""
        job = session.submit(
            jobs.shell("echo 11; echo 22 >&2; echo 33"), stdout=tmp_path / "both", stderr=tmp_path / "both", append_streams=True
        )
        finish(job, features).check()
        assert sorted((tmp_path / "both").read_text().split()) == ["11", "22", "33"]

    def test_discarded(self, session: Session, features: Features) -> None:
        job = session.submit(jobs.noisy(64), stdout="/dev/null", stderr="/dev/null")
        finish(job, features).check()

    def test_large_output(self, session: Session, features: Features, tmp_path: Path) -> None:
        job = session.submit(jobs.noisy(8 << 10), stdout=tmp_path / "out")
        finish(job, features, features.deadline_s + 30).check()
        assert (tmp_path / "out").stat().st_size == 8 << 20
        assert job.stderr_path is not None
        assert Path(job.stderr_path).read_bytes() == b"done\n"

    def test_output_is_there_when_the_ending_is_told(self, session: Session, features: Features, tmp_path: Path) -> None:
        for n, job in enumerate(session.submit_all([["/bin/echo", str(n)] for n in range(20)])):
            finish(job, features).check()
            assert _kept(job)[0] == b"%d\n" % n

    def test_like_jobs_have_streams_of_their_own(self, session: Session, features: Features) -> None:
        many = session.submit_all([["/bin/echo", str(n)] for n in range(6)])
        session.wait_all(many, timeout=features.deadline_s + features.poll_s)
        paths = {job.stdout_path for job in many}
        assert len(paths) == 6
        assert [_kept(job)[0] for job in many] == [b"%d\n" % n for n in range(6)]

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_paths(self, session: Session, features: Features, tmp_path: Path, name: str) -> None:
        """Directory and all three streams under that name: as it is, or refused naming the attribute."""
        folder = tmp_path / os.fsdecode(HOSTILE[name])
        folder.mkdir()
        (folder / os.fsdecode(HOSTILE[name] + b".in")).write_text("through\n")
        paths = [str(folder / os.fsdecode(HOSTILE[name] + suffix)) for suffix in (b".in", b".out", b".err")]
        job = session.submit(
            jobs.shell("/bin/cat; pwd >&2"), directory=folder, stdin=paths[0], stdout=paths[1], stderr=paths[2], name="hostile"
        )
        finish(job, features).check()
        assert Path(paths[1]).read_bytes() == b"through\n"
        assert Path(paths[2]).read_bytes() == os.fsencode(folder) + b"\n"
        assert len(list(tmp_path.iterdir())) == 1, "nothing was made beside it"

    def test_streams_that_cannot_be_honoured_are_refused(self, session: Session, features: Features, tmp_path: Path) -> None:
        for attribute, fields in (
            ("join_streams", {"join_streams": True}),
            ("append_streams", {"append_streams": True, "stdout": tmp_path / "out"}),
            ("stdin", {"stdin": "/dev/null"}),
        ):
            if features.honours(attribute):
                try:
                    session.check(jobs.succeed(), **fields)
                except UnsupportedAttribute as error:
                    pytest.fail(f"{attribute} is declared as honoured: {error}")
            else:
                with refuses(features, attribute):
                    session.check(jobs.succeed(), **fields)


def _kept(job: Job) -> tuple[bytes, bytes]:
    assert job.stdout_path is not None
    assert job.stderr_path is not None
    return Path(job.stdout_path).read_bytes(), Path(job.stderr_path).read_bytes()
