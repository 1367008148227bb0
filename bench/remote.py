"""Figures of the transport to login hosts: a real sshd on the loopback, started for the run.

Files lie in memory (/dev/shm) where there is room, so that connections are compared, not the disk: a file system without a journal
needs ever longer for each new file after many were removed, whoever makes it. ``BENCH_FOLDER`` names another place.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobyard.transports.base import Command
from jobyard.transports.local import LocalTransport
from jobyard.transports.openssh import OpenSSHTransport, Settings
from jobyard.transports.openssh_sync import pull, push

from .measure import ROOT, Figure, alternate, told, under

BED = ROOT / "testbeds" / "ssh"
FILES, SMALL_BYTES, LARGE_BYTES = 1000, 4096, 1_000_000_000
MEMORY = Path("/dev/shm")


def _room() -> str | None:
    """The folder for files; None: the usual one for temporary files."""
    named = os.environ.get("BENCH_FOLDER")
    if named is not None or not MEMORY.is_dir():
        return named
    found = os.statvfs(MEMORY)
    return str(MEMORY) if found.f_bavail * found.f_frsize > 4 * LARGE_BYTES else None


@contextmanager
def _bed(*, memory: bool = True) -> Iterator[tuple[Path, OpenSSHTransport, list[str]]]:
    """A folder with room, a transport to the server, and the words of scp's and ssh's settings."""
    folder = Path(tempfile.mkdtemp(prefix="bench-ssh-", dir=_room() if memory else None))
    try:
        subprocess.run([str(BED / "up.sh"), str(folder / "bed")], check=True, stdout=subprocess.DEVNULL, timeout=300)
        config = str(folder / "bed" / "config")
        transport = OpenSSHTransport(Settings(host="bed", config=config))
        try:
            transport.link()
            yield folder, transport, ["-F", config]
        finally:
            transport.close()
    finally:
        subprocess.run([str(BED / "down.sh"), str(folder / "bed")], check=False, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _ran(*words: str) -> float:
    return _seconds(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def command() -> list[Figure]:
    """A command over the warm connection, against a new ssh, a multiplexed one, and a process of this machine."""
    true = Command(argv=("/bin/true",))
    with _bed() as (folder, transport, settings):
        here = LocalTransport()
        socket = str(folder / "mux")
        shared = ["-o", f"ControlPath={socket}", "-o", "ControlMaster=no"]
        subprocess.run(["ssh", *settings, "-o", f"ControlPath={socket}", "-o", "ControlMaster=yes", "-Nf", "bed"], check=True)
        try:
            contenders = {
                "warm": lambda: statistics.median(_seconds(lambda: transport.run(true)) for _ in range(50)),
                "local": lambda: statistics.median(_seconds(lambda: here.run(true)) for _ in range(50)),
                "mux": lambda: statistics.median(_ran("ssh", *settings, *shared, "bed", "/bin/true") for _ in range(5)),
                "new": lambda: _ran("ssh", *settings, "bed", "/bin/true"),
            }
            values = alternate(contenders, 7)
        finally:
            subprocess.run(["ssh", *settings, *shared, "-O", "exit", "bed"], check=False, capture_output=True)
        here.close()
    ms = {name: [1000 * one for one in times] for name, times in values.items()}
    return [
        under("a command over the warm connection", ms["warm"], 2, "ms"),
        told("the same as a process of this machine", ms["local"], "ms"),
        told("the same by a multiplexed ssh", ms["mux"], "ms"),
        told("the same by a new ssh", ms["new"], "ms"),
        told("a multiplexed ssh takes times as long", [b / a for a, b in zip(ms["warm"], ms["mux"], strict=True)], "x"),
        told("a new ssh takes times as long", [b / a for a, b in zip(ms["warm"], ms["new"], strict=True)], "x"),
    ]


def small_files() -> list[Figure]:
    """1,000 files of 4 KiB up and down, checked, against scp -r."""
    with _bed() as (folder, transport, settings):
        source = folder / "source"
        source.mkdir()
        for number in range(FILES):
            (source / f"file{number}").write_bytes(os.urandom(SMALL_BYTES))
        turn = iter(range(10**6))

        def fresh() -> str:
            return str(folder / f"target{next(turn)}")

        def ours(bring: Callable[..., object]) -> float:
            target = fresh()
            spent = _seconds(lambda: bring(transport, str(source), target))
            assert len(os.listdir(target)) == FILES
            return spent

        def scp(words: Callable[[str], list[str]]) -> float:
            target = fresh()
            spent = _ran("scp", *settings, "-q", "-p", "-r", *words(target))
            assert len(os.listdir(target)) == FILES
            return spent

        values = alternate(
            {
                "up": lambda: ours(push),
                "scp up": lambda: scp(lambda target: [str(source), f"bed:{target}"]),
                "down": lambda: ours(pull),
                "scp down": lambda: scp(lambda target: [f"bed:{source}", target]),
            },
            5,
        )
    return _against_scp(values, f"{FILES} files of 4 KiB", 0.25)


def large_file() -> list[Figure]:
    """One file of 1 GB up and down, crc32 and size checked, against scp."""
    with _bed() as (folder, transport, settings):
        source = folder / "large"
        block = os.urandom(1 << 20)
        with open(source, "wb") as file:
            for _ in range(LARGE_BYTES // len(block) + 1):
                file.write(block)
            file.truncate(LARGE_BYTES)
        target = folder / "target"

        ways: dict[str, Callable[..., object]] = {"up": push, "down": pull}
        pids = {"helper": transport.identity.pid, "client": os.getpid()}
        at_first = [_peak_bytes(pid) for pid in pids.values()]

        def ours(bring: Callable[..., object]) -> float:
            spent = _seconds(lambda: bring(transport, str(source), str(target)))
            assert target.stat().st_size == LARGE_BYTES
            target.unlink()
            return spent

        def scp(*words: str) -> float:
            spent = _ran("scp", *settings, "-q", *words)
            assert target.stat().st_size == LARGE_BYTES
            target.unlink()
            return spent

        values = alternate(
            {
                "up": lambda: ours(push),
                "scp up": lambda: scp(str(source), f"bed:{target}"),
                "down": lambda: ours(pull),
                "scp down": lambda: scp(f"bed:{source}", str(target)),
            },
            3,
        )
        grown = {name: _peak_bytes(pid) - before for (name, pid), before in zip(pids.items(), at_first, strict=True)}

        def late_ms(name: str) -> Callable[[], float]:
            return lambda: _late_ms(transport, ways[name], source, target)

        late = alternate({name: late_ms(name) for name in ways}, 3)
    return [
        *_against_scp(values, "1 GB", 1.1),
        under("memory that the helper needed beyond its first", [grown["helper"] / 1e6], 32, "MB"),
        under("memory that the client needed beyond its first", [grown["client"] / 1e6], 32, "MB"),
        under("a message while 1 GB goes up, 95th percentile", late["up"], 50, "ms"),
        under("a message while 1 GB comes down, 95th percentile", late["down"], 50, "ms"),
    ]


def _peak_bytes(pid: int) -> int:
    """The most memory that a process ever had at a time."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _late_ms(transport: OpenSSHTransport, bring: Callable[..., object], source: Path, target: Path) -> float:
    """The 95th percentile of what a small question takes while the file is on its way."""
    moving = threading.Thread(target=bring, args=(transport, str(source), str(target)))
    moving.start()
    spent: list[float] = []
    while moving.is_alive():
        spent.append(1000 * _seconds(lambda: transport.stat("/")))
        time.sleep(0.005)
    moving.join()
    assert target.stat().st_size == LARGE_BYTES
    target.unlink()
    return statistics.quantiles(spent, n=20)[-1]


def _against_scp(values: dict[str, list[float]], what: str, most: float) -> list[Figure]:
    rows: list[Figure] = []
    for way in ("up", "down"):
        of_scp = [a / b for a, b in zip(values[way], values[f"scp {way}"], strict=True)]
        rows += [
            told(f"{what} {way}", values[way], "s"),
            told(f"{what} {way} by scp", values[f"scp {way}"], "s"),
            under(f"{what} {way}, of scp's time", of_scp, most, ""),
        ]
    return rows


def gc3_files() -> list[Figure]:
    """A folder of 1,000 files by the GC3 front's transport, both ways, against scp -r and file by file."""
    from gc3libs.backends.transport import SshTransport

    with _bed() as (folder, _, settings):
        source = folder / "source"
        source.mkdir()
        for number in range(FILES):
            (source / f"file{number}").write_bytes(os.urandom(1024))
        front = SshTransport("bed", ssh_config=settings[1])
        turn, asked = iter(range(10**6)), {"put": 0, "get": 0}
        link = front.inner.connection.link()  # type: ignore[attr-defined]

        def whole(way: str) -> float:
            target = str(folder / f"target{next(turn)}")
            before = next(link._numbers)
            spent = _seconds(lambda: getattr(front, way)(str(source), target))
            asked[way] = next(link._numbers) - before - 1
            assert len(os.listdir(target)) == FILES
            return spent

        def singly() -> float:
            target = folder / f"target{next(turn)}"
            target.mkdir()

            def fetch() -> None:
                for name in os.listdir(source):
                    front.get(str(source / name), str(target / name))

            return _seconds(fetch)

        def scp() -> float:
            return _ran("scp", *settings, "-q", "-p", "-r", str(source), f"bed:{folder / f'target{next(turn)}'}")

        contenders = {"put": lambda: whole("put"), "get": lambda: whole("get"), "singly": singly, "scp": scp}
        values = alternate(contenders, 5)
        front.close()
    return [
        under(f"a folder of {FILES} files put: messages", [asked["put"]], 50, ""),
        under(f"a folder of {FILES} files fetched: messages", [asked["get"]], 50, ""),
        told("put", values["put"], "s"),
        told("fetched", values["get"], "s"),
        told("fetched file by file", values["singly"], "s"),
        told("put by scp -r", values["scp"], "s"),
        under("put, of scp's time", [a / b for a, b in zip(values["put"], values["scp"], strict=True)], 0.25, ""),
    ]


_JOBS = """
import json, sys, time
from jobyard import Session
with Session(sys.argv[1]) as session:
    session.submit(["/bin/true"]).wait(timeout=60)  # connection, shepherd and scheduler are there
    began = time.perf_counter()
    jobs = session.submit_all([["/bin/true"]] * 100)
    session.wait_all(jobs, timeout=120)
    print(json.dumps(time.perf_counter() - began))
"""


def jobs() -> list[Figure]:
    """100 jobs submitted and waited for on the stand-in: over one connection, and on this machine."""
    from jobyard.contact import Contact
    from jobyard.testing import standin

    from .measure import run_python

    with _bed(memory=False) as (folder, _, settings), standin.install(folder / "cell", slots=4) as cell:
        program = folder / "jobs.py"
        program.write_text(_JOBS)
        there = {"cell": str(cell.folder), "path": str(cell.bin), "work_dir": str(folder / "there"), "ssh_config": settings[1]}
        (folder / "there").mkdir()
        far = str(Contact(scheduler="standin", host="bed", options=there))
        values = alternate(
            {
                "far": lambda: float(run_python(str(program), far)),
                "here": lambda: float(run_python(str(program), cell.contact)),
            },
            5,
        )
    return [
        told("100 jobs over one connection", values["far"], "s"),
        told("100 jobs on this machine", values["here"], "s"),
        under(
            "over the connection, of the time here", [a / b for a, b in zip(values["far"], values["here"], strict=True)], 1.2, ""
        ),
    ]


SECTIONS = {
    "ssh-command": command,
    "ssh-small-files": small_files,
    "ssh-large-file": large_file,
    "ssh-jobs": jobs,
    "ssh-gc3-files": gc3_files,
}
