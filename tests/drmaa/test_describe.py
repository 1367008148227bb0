"""What a template becomes: command, directory, streams, placeholders, times, limits, mail, native options."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import drmaa
from drmaa import const
from drmaa._describe import FilesHere, Place, describe
from drmaa._vendors import vendor_of
from drmaa.errors import DeniedByDrmException, InvalidAttributeFormatException
from jobyard import JobDescription
from jobyard.fronts import Inherit, Placeholder

HD, WD, INCR = "$drmaa_hd_ph$", "$drmaa_wd_ph$", "$drmaa_incr_ph$"
HOME, DIRECTORY, INDEX, ID = Placeholder.HOME, Placeholder.DIRECTORY, Placeholder.INDEX, Placeholder.NATIVE_ID


class There:
    """Another host, which has two things that this machine has not."""

    def folder(self, path: str) -> bool:
        return path in ("/there/logs", HOME)

    def program(self, path: str) -> bool:
        return path in ("/there/job.sh", f"{HOME}/job.sh")


def told(scheduler: str = "local", *, bulk: bool = False, here: bool = True, **values: Any) -> JobDescription:
    names = {
        "command": const.REMOTE_COMMAND,
        "args": const.V_ARGV,
        "wd": const.WD,
        "name": const.JOB_NAME,
        "input": const.INPUT_PATH,
        "output": const.OUTPUT_PATH,
        "error": const.ERROR_PATH,
        "join": const.JOIN_FILES,
        "transfer": const.TRANSFER_FILES,
        "state": const.JS_STATE,
        "start": const.START_TIME,
        "deadline": const.DEADLINE_TIME,
        "native": const.NATIVE_SPECIFICATION,
        "category": const.JOB_CATEGORY,
        "email": const.V_EMAIL,
        "block": const.BLOCK_EMAIL,
        "env": const.V_ENV,
        "wct": const.WCT_HLIMIT,
        "wct_soft": const.WCT_SLIMIT,
        "run": const.DURATION_HLIMIT,
        "run_soft": const.DURATION_SLIMIT,
    }
    values.setdefault("command", "/bin/true")
    stored = {names[name]: value for name, value in values.items()}
    return describe(stored, Place(vendor_of(scheduler), here, bulk, FilesHere() if here else There()))


def one(name: str, value: Any) -> Any:
    return {name: value}


def test_least() -> None:
    job = told()
    assert job.argv == ("/bin/true",)
    assert job.directory == HOME
    assert job.inherit is Inherit.NODE
    assert job.environment == {}
    assert job.stdin is None
    assert job.stdout == f"{DIRECTORY}/true.o{ID}"
    assert job.stderr == f"{DIRECTORY}/true.e{ID}"
    assert (job.name, job.hold, job.rerunnable, job.begin_at) == (None, False, False, None)


def test_bytes_are_bytes() -> None:
    args = ["a b", "$HOME", "*", 'q"q', "q'q", "back\\slash", "new\nline", "", "é", os.fsdecode(b"\xff"), "a=b,c", "x" * 100_000]
    job = told(args=args, env={"A": "a=b\nc", "EMPTY": ""}, name="a job")
    assert list(job.argv[1:]) == args
    assert job.environment == {"A": "a=b\nc", "EMPTY": ""}
    assert job.name == "a job"


def test_no_command() -> None:
    for command in (None, ""):
        with pytest.raises(DeniedByDrmException, match=r"^code 17: .*no remoteCommand"):
            told(command=command)


# Directories ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "directory"),
    [("/data/x", "/data/x"), (HD, HOME), (f"{HD}/x", f"{HOME}/x"), ("/data/with space", "/data/with space")],
)
def test_directory(given: str, directory: str) -> None:
    assert told(wd=given).directory == directory


def test_directory_by_vendor() -> None:
    assert told("gridengine").directory == HOME
    assert told("slurm").directory == os.getcwd()
    assert told("slurm", here=False).directory == HOME


def test_directory_of_a_task() -> None:
    assert told(wd=f"/data/{INCR}/x", bulk=True).directory == f"/data/{INDEX}/x"
    assert told(wd=f"{HD}/{INCR}", bulk=True).directory == f"{HOME}/{INDEX}"


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (f"{WD}/x", DeniedByDrmException, "stands for itself"),
        (f"/data/{WD}", DeniedByDrmException, "stands for itself"),
        (f"/data/{HD}", DeniedByDrmException, "at the beginning only"),
        (f"/data/{INCR}", DeniedByDrmException, "only allowed in paths for bulk jobs"),
        ("rel/dir", InvalidAttributeFormatException, "is not absolute"),
        (".", InvalidAttributeFormatException, "is not absolute"),
    ],
)
def test_bad_directory(given: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        told(wd=given)


def test_relative_command(tmp_path: Path) -> None:
    """A path with a slash is the job's affair; a bare name is looked for in the working directory, then on PATH."""
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    assert told(command="bin/x", wd=str(tmp_path)).argv == ("bin/x",)
    assert told(command="job.sh", wd=str(tmp_path)).argv == ("job.sh",)  # not executable
    script.chmod(0o755)
    assert told(command="job.sh", wd=str(tmp_path)).argv == ("./job.sh",)
    assert told(command="job.sh", wd=str(tmp_path), here=False).argv == ("job.sh",)
    assert told(command="true", wd=str(tmp_path)).argv == ("true",)
    assert told(command="job.sh", wd="/there", here=False).argv == ("./job.sh",)
    assert told(command="job.sh", here=False).argv == ("./job.sh",)
    assert told(command="job.sh", wd=f"/there{INCR}", bulk=True, here=False).argv == ("job.sh",)


# Streams ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (":/data/out", "/data/out"),
        ("host:/data/out", "/data/out"),
        ("host.example.org:/data/a:b", "/data/a:b"),
        (":out", f"{DIRECTORY}/out"),
        (f":{HD}/out", f"{HOME}/out"),
        (f":{WD}/out", f"{DIRECTORY}/out"),
        (f":/data/{HD}/out", f"/data/{HD}/out"),
        (":/data/%j.$JOB_ID", "/data/%j.$JOB_ID"),
        (f":b'{HD}'", f"{DIRECTORY}/b'{HD}'"),
    ],
)
def test_stream(given: str, path: str) -> None:
    job = told(input=given, output=given, error=given)
    assert (job.stdin, job.stdout, job.stderr) == (path, path, path)


def test_streams_of_tasks() -> None:
    job = told(bulk=True, input=f":/in/{INCR}", output=f":{WD}/{INCR}/out.{INCR}")
    assert job.stdin == f"/in/{INDEX}"
    assert job.stdout == f"{DIRECTORY}/{INDEX}/out.{INDEX}"
    assert job.stderr == f"{DIRECTORY}/true.e{ID}.{INDEX}"


@pytest.mark.parametrize("name", ["input", "output", "error"])
def test_bad_streams(name: str) -> None:
    with pytest.raises(
        InvalidAttributeFormatException, match=rf"^code 13: {name}Path '/data/out' has no ':'; write '\[host\]:path'"
    ):
        told(**one(name, "/data/out"))
    with pytest.raises(InvalidAttributeFormatException, match="names no file"):
        told(**one(name, "host:"))
    with pytest.raises(DeniedByDrmException, match=rf"^code 17: {name}Path .*only allowed in paths for bulk jobs; use runBulkJobs"):
        told(**one(name, f":/data/{INCR}"))


def test_directory_as_a_stream(tmp_path: Path) -> None:
    job = told(output=f":{tmp_path}", error=f":{tmp_path}/", name="n")
    assert (job.stdout, job.stderr) == (f"{tmp_path}/n.o{ID}", f"{tmp_path}/n.e{ID}")
    (tmp_path / "logs").mkdir()
    job = told(bulk=True, wd=str(tmp_path), output=":logs", error=f":{WD}/logs/")
    assert (job.stdout, job.stderr) == (f"{DIRECTORY}/logs/true.o{ID}.{INDEX}", f"{DIRECTORY}/logs/true.e{ID}.{INDEX}")
    assert told(output=f":{HD}").stdout == f"{HOME}/true.o{ID}"
    assert told(output=":/there/logs", here=False).stdout == f"/there/logs/true.o{ID}"
    assert told(output=f":{tmp_path}", here=False).stdout == str(tmp_path)
    assert told(output=":logs", wd="/there", here=False).stdout == f"{DIRECTORY}/logs/true.o{ID}"


def test_joined_streams() -> None:
    job = told(join="y", output=":/data/out", error="/no colon, and not looked at")
    assert (job.stdout, job.stderr, job.join_streams) == ("/data/out", None, True)
    assert told(join="n").join_streams is False


def test_words_of_vendors() -> None:
    """What the vendor's scheduler fills in is filled in for its contacts; on others it stays as it is."""
    assert told("gridengine", output=":/d/$JOB_ID.$JOB_NAME", name="n").stdout == f"/d/{ID}.n"
    assert told("gridengine", bulk=True, output=":/d/$TASK_ID").stdout == f"/d/{INDEX}"
    assert told("slurm", bulk=True, output=f":/d/%A.%a.{INCR}").stdout == f"/d/{ID}.{INDEX}.{INDEX}"
    assert told("slurm", output=":/d/$JOB_ID").stdout == "/d/$JOB_ID"


def test_long_name_and_default_streams() -> None:
    job = told(name="n" * 300)
    assert job.name == "n" * 300
    assert job.stdout == f"{DIRECTORY}/{'n' * 200}.o{ID}"


@pytest.mark.parametrize("name", ["a/b", "a\nb", "\x1b[1m"])
def test_bad_name(name: str) -> None:
    with pytest.raises(DeniedByDrmException, match=r"^code 17: jobName"):
        told(name=name)


def test_transfers() -> None:
    """Files of this host are there already; another host is refused, not dropped."""
    host = os.uname().nodename
    for own in ("", "localhost", host):
        assert told(transfer="ioe", input=f"{own}:/a", output=f"{own}:/b", error=f"{own}:/c").stdout == "/b"
    with pytest.raises(DeniedByDrmException, match=r"^code 17: outputPath .*'elsewhere\.example\.org'; leave the host out"):
        told(transfer="o", output="elsewhere.example.org:/b")
    assert told(transfer="o", error="elsewhere.example.org:/c").stderr == "/c"


# The rest -----------------------------------------------------------------------------------------------------------------


def test_hold() -> None:
    assert told(state="drmaa_hold").hold is True
    assert told(state="drmaa_active").hold is False


def test_times() -> None:
    assert told(start="1999/01/02 03:04").begin_at is None  # past: at once
    begin = told(start=time.strftime("%Y/%m/%d %H:%M", time.localtime(time.time() + 86400))).begin_at
    assert begin is not None
    assert 0 < begin - time.time() <= 86400
    deadline = told(deadline="2090/01/01 00:00 +00:00").deadline_at
    assert deadline == 3786912000
    for name, attribute in (("start", "startTime"), ("deadline", "deadlineTime")):
        with pytest.raises(InvalidAttributeFormatException, match=rf"^code 13: {attribute}: 'soon' is not a time"):
            told(**one(name, "soon"))


def test_limits() -> None:
    limits = told(wct="3600", wct_soft="1800", run="60", run_soft="30").limits
    assert (limits.walltime_s, limits.soft_walltime_s, limits.run_time_s, limits.soft_run_time_s) == (3600, 1800, 60, 30)
    assert told(wct="").limits.walltime_s is None


def test_native_options_pass_through() -> None:
    job = told("slurm", native=" --gres=gpu:2 --tres-per-task=cpu:4 --array=1-9%2 --mem=4G -C 'a b'", category="big")
    assert job.native == ("--gres=gpu:2", "--tres-per-task=cpu:4", "--array=1-9%2", "--mem=4G", "-C", "a b")
    assert job.category == "big"
    assert told(native="  ").native == ()
    with pytest.raises(InvalidAttributeFormatException, match=r"^code 13: nativeSpecification .*close the quotation"):
        told(native="-N 'x")


def test_mail() -> None:
    assert told(email=["a@example.org", "b@example.org"]).email == ("a@example.org", "b@example.org")
    blocked = told("gridengine", email=["a@example.org"], block="y", native="-m bea")
    assert (blocked.email, blocked.native) == ((), ("-m", "bea", "-m", "n"))
    assert told("slurm", block="y").native == ("--mail-type=NONE",)
    assert told("local", block="y", email=["a@example.org"]).email == ()
    assert told("slurm", block="n", native="--mail-type=ALL").native == ("--mail-type=ALL",)


def test_vendor_names() -> None:
    """Prefixes that programs test for."""
    assert vendor_of("slurm").prefix == "SLURM"
    assert vendor_of("gridengine").prefix.startswith("SGE")
    assert vendor_of("torque").prefix == "Torque"
    assert "PBS" in vendor_of("pbs").prefix
    assert "LSF" in vendor_of("lsf").prefix
    assert vendor_of("flux").prefix == "flux"
    assert drmaa._vendors.implementation_of("pbs").startswith("PBS Professional (jobyard ")
    assert "pbspro-drmaa" in drmaa._vendors.implementation_of("pbs")
    assert drmaa._vendors.implementation_of("slurm", "SLURM 22.05.8").startswith("SLURM 22.05.8 (jobyard ")


def test_a_present_directory_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an unset working directory is the one of submission."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert told("slurm").directory == str(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(DeniedByDrmException, match=r"^code 17: workingDirectory: .*was removed"):
        told("slurm")
    assert told("slurm", wd="/tmp").directory == "/tmp"
