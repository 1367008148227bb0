"""The stand-in's server: one for each cell, started by the first command, gone when idle, stopped, or without its folder.

It keeps the jobs, runs them, and answers the commands; see client.py for how they talk.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import selectors
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from .client import pack, unpack
from .faults import KINDS, Answer, Faults
from .jobs import Job, Spec, Store, table
from .machine import Machine

CONFIG: dict[str, Any] = {
    "slots": 4,
    "memory": 8 << 30,
    "gpus": 2,
    "queues": ["main", "short"],
    "max_array": 10000,
    "max_index": 1000000,
    "max_jobs": 200000,
    "kill_grace_s": 1.0,
    "linger_s": 300.0,  # how long an ended job stays in the queue's answer
    "queue_lag_s": 0.0,
    "account_lag_s": 0.0,
    "accounting": True,
    "away": False,  # as if its host were down
    "paused": False,  # accepts, but starts nothing
    "idle_s": 60.0,
}
VERSION = "standin 1.0"
NEVER = 1e18


class Refused(Exception):
    """A submission that cannot be taken."""


class Server:
    settings: ClassVar[dict[str, Any]] = CONFIG

    def __init__(self, cell: str) -> None:
        os.chdir(cell)
        self.config = dict(self.settings)
        if os.path.exists("config.json"):
            with open("config.json", encoding="utf-8") as file:
                self.config.update(json.load(file))
        os.makedirs("spool", mode=0o700, exist_ok=True)
        self.store = Store("jobs.log")
        self.machine = self._machine(os.path.join(cell, "spool"))
        self.faults = Faults()
        self.selector = selectors.DefaultSelector()
        self.later: list[tuple[float, int, socket.socket, bytes]] = []
        self.sequence = 0
        self.open: dict[socket.socket, bytearray] = {}
        self.used_at = time.time()
        self.stopping = False
        self._listen()
        self.woken, tell = os.pipe()
        for fd in (self.woken, tell):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.selector.register(self.woken, selectors.EVENT_READ)
        with open("server.pid", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def _listen(self) -> None:
        if os.path.lexists("socket"):
            os.unlink("socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind("socket")
        os.chmod("socket", 0o600)
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.inode = os.stat("socket").st_ino
        self.selector.register(self.listener, selectors.EVENT_READ)

    def _machine(self, spool: str) -> Machine:
        return Machine(self.store, self.config, spool)

    # The loop

    def run(self) -> None:
        look_at = time.time() + 1.0
        while not self.stopping:
            now = time.time()
            self.machine.reap(now)
            self.machine.look_at_adopted(now)
            self.machine.enforce(now)
            self.machine.schedule(now)
            self._send_late(now)
            if now >= look_at:
                if not self._wanted(now) and self._retired():
                    break
                look_at = now + 1.0
            moments = [look_at, self.machine.next_moment(now) or NEVER, self.later[0][0] if self.later else NEVER]
            for key, _ in self.selector.select(max(0.0, min(moments) - time.time())):
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj == self.woken:
                    os.read(self.woken, 4096)
                elif isinstance(key.fileobj, socket.socket):
                    self._receive(key.fileobj)

    def _wanted(self, now: float) -> bool:
        try:
            if os.stat("socket").st_ino != self.inode:
                return False
        except FileNotFoundError:  # the cell's folder was removed: nothing of it stays
            self.machine.kill_all()
            return False
        coming = any(job.spec.begin is not None and job.spec.begin > now for job in self.machine.waiting)
        busy = self.machine.running or self.faults.waiting or self.open or coming
        return bool(busy) or now < self.used_at + self.config["idle_s"]

    def _retired(self) -> bool:
        """Nobody can reach us any more; False where a command came at the last moment."""
        try:
            lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat("socket").st_ino != self.inode:  # another server's
                return True
            os.unlink("socket")
            if not select.select([self.listener], [], [], 0)[0]:
                return True
            self._accept()
            self.selector.unregister(self.listener)
            self.listener.close()
            self._listen()
            return False
        except BlockingIOError:  # a command looks for a server just now
            return False
        except FileNotFoundError:
            return True
        finally:
            os.close(lock)

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.open[connection] = bytearray()
        self.selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self._drop(connection)
            return
        buffer = self.open[connection]
        buffer += data
        if len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
            self.used_at = time.time()
            self._answer(connection, unpack(bytes(buffer[4:])))

    def _drop(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        del self.open[connection]
        connection.close()

    def _reply(self, connection: socket.socket, answer: Answer) -> None:
        if connection not in self.open:
            return
        message = pack(b"%d" % answer.code, answer.fate, answer.out, answer.err)
        try:
            connection.settimeout(10)
            connection.sendall(message)
        except OSError:
            pass  # the command was killed meanwhile
        self._drop(connection)

    def _send_late(self, now: float) -> None:
        while self.later and self.later[0][0] <= now:
            _, _, connection, body = heapq.heappop(self.later)
            code, fate, out, err = unpack(body)
            self._reply(connection, Answer(int(code), out, err, fate))

    # Requests

    def _answer(self, connection: socket.socket, fields: list[bytes]) -> None:
        program, folder, words_, stdin, uid = fields
        name = program.decode()
        words = [os.fsdecode(word) for word in words_.split(b"\0")] if words_ else []
        if int(uid) != os.getuid():
            self._reply(connection, Answer(1, b"", b"permission denied\n"))
            return
        if name == "standin-admin":
            self._reply(connection, self._admin(json.loads(stdin)))
            return
        if self.config["away"]:
            self._reply(connection, self._away(name))
            return
        if words == ["--version"]:
            self._reply(connection, self._version(name))
            return
        verb = self._verb(name, words)
        fault = self.faults.take(verb)
        if fault is None:
            self._reply(connection, self._do(verb, words, stdin, folder))
            return
        kind = fault["kind"]
        if kind == "die_before":
            self._reply(connection, Answer(fate=b"die"))
        elif kind in ("exit", "hang", "refuse", "deny"):
            if kind == "deny":
                ids = stdin.split()
                rows = [b"%s denied only an operator may do that" % each for each in ids]
                self._reply(connection, Answer(1, b"\n".join([*rows, b"END %d" % len(rows), b""])))
            elif kind == "refuse":
                self._reply(connection, Answer(1, b"", f"{name}: error: {fault.get('text', 'refused')}\n".encode()))
            elif kind == "exit":
                self._reply(connection, self.faults.spoil(fault, Answer()))
        else:
            answer = self._do(verb, words, stdin, folder)
            if kind == "twice":
                self._do(verb, words, stdin, folder)
            elif kind == "die_after":
                answer = Answer(fate=b"die")
            elif kind == "mute":
                answer = Answer()
            elif kind == "late":
                self.sequence += 1
                body = pack(b"%d" % answer.code, answer.fate, answer.out, answer.err)[4:]
                heapq.heappush(self.later, (time.time() + fault["seconds"], self.sequence, connection, body))
                return
            elif kind == "hang_after":
                return
            else:
                answer = self.faults.spoil(fault, answer)
            self._reply(connection, answer)

    def _away(self, name: str) -> Answer:
        """What a command says whose server is not there."""
        return Answer(1, b"", f"{name}: error: cannot contact the scheduler: connection refused\n".encode())

    def _version(self, name: str) -> Answer:
        return Answer(0, VERSION.encode() + b"\n")

    def _verb(self, name: str, words: list[str]) -> str:
        """What a program is to ``_do``, and to the faults."""
        return name.rpartition("-")[2]

    def _do(self, verb: str, words: list[str], stdin: bytes, folder: bytes) -> Answer:
        try:
            if verb == "submit":
                return self._submit(words, folder)
            if verb == "queue":
                return self._queue()
            if verb == "account":
                return self._account(words, stdin)
            if verb == "control":
                return self._control(words, stdin)
            if verb == "limits":
                return Answer(
                    0, b"".join(b"%s=%d\n" % (key.encode(), self.config[key]) for key in ("max_array", "max_index", "max_jobs"))
                )
            raise Refused(f"no such program: {verb}")
        except Refused as error:
            return Answer(1, b"", f"standin-{verb}: error: {error}\n".encode("utf-8", "surrogateescape"))

    # Submission

    def _submit(self, words: list[str], folder: bytes) -> Answer:
        options, rest = _split(words)
        if not rest:
            raise Refused("no script was given")
        path = os.path.join(os.fsdecode(folder), rest[0])
        try:
            with open(path, "rb") as file:
                script = file.read()
        except OSError as error:
            raise Refused(f"cannot read the script {rest[0]}: {error.strerror}") from error
        directives: list[tuple[str, str]] = []
        for line in script.splitlines():
            if not line.startswith(b"#"):
                break
            if line.startswith(b"#STANDIN "):
                directives += _split(shlex.split(line[9:].decode()))[0]
        spec = Spec(folder=os.fsdecode(folder), name=os.path.basename(rest[0]), words=rest[1:], submitted=time.time())
        held = False
        for key, value in directives + options:
            held = self._option(spec, key, value) or held
        self._check(spec)
        jobs = self.store.add(spec)
        with open(os.path.join("spool", str(spec.number)), "wb") as file:
            file.write(script)
        for job in jobs:
            job.hold_user = held
            if held:
                job.state, job.reason = "HELD_USER", "Held"
                self.store.save(job, spec.submitted)
        self.machine.add(jobs)
        return Answer(0, b"%d\n" % spec.number)

    def _option(self, spec: Spec, key: str, value: str) -> bool:
        """Take one option; True: submitted held."""
        try:
            if key == "array":
                spec.indices, spec.cap = _indices(value, self.config["max_array"])
            elif key in ("cores", "memory", "gpus", "priority"):
                setattr(spec, key, int(value))
            elif key in ("walltime", "run-time", "begin"):
                setattr(spec, key.replace("-", "_"), float(value))
            elif key in ("name", "out", "err", "queue", "account"):
                setattr(spec, key, value)
            elif key == "chdir":
                spec.folder = value
            elif key == "rerun":
                spec.rerun = value == "yes"
            elif key == "hold":
                return value == "user"
            elif key == "after":
                for part in value.split(","):
                    when, _, job_id = part.partition(":")
                    if when not in ("success", "failure", "any") or not self.store.named(job_id):
                        raise Refused(f"job dependency problem: {part}")
                    spec.after.append((when, job_id))
            else:
                raise Refused(f"unrecognized option --{key}")
        except ValueError as error:
            raise Refused(f"invalid value of --{key}: {value}") from error
        return False

    def _check(self, spec: Spec) -> None:
        config = self.config
        if spec.queue not in config["queues"]:
            raise Refused(f"invalid queue specified: {spec.queue}")
        for key, most in (("cores", config["slots"]), ("memory", config["memory"]), ("gpus", config["gpus"])):
            if getattr(spec, key) > most:
                raise Refused(f"requested {key} {getattr(spec, key)} is more than this cell has ({most})")
        if spec.indices is not None:
            if len(spec.indices) > config["max_array"]:
                raise Refused(f"array of {len(spec.indices)} tasks is larger than {config['max_array']}")
            if max(spec.indices) > config["max_index"]:
                raise Refused(f"index {max(spec.indices)} is larger than {config['max_index']}")
        count = sum(not job.over for job in self.machine.waiting) + len(self.machine.running)
        if count + len(spec.indices or [0]) > config["max_jobs"]:
            raise Refused(f"more than {config['max_jobs']} jobs at a time, try again later")

    # Answers

    def _queue(self) -> Answer:
        at = time.time() - self.config["queue_lag_s"]
        linger_s = self.config["linger_s"]
        rows = []
        for job in self.store.jobs.values():
            if job.ended is None or not job.over or job.ended + linger_s > at:
                row = job.row(at)
                if row is not None:
                    rows.append(row)
        return Answer(0, table(rows))

    def _account(self, words: list[str], stdin: bytes) -> Answer:
        if not self.config["accounting"]:
            raise Refused("accounting is not enabled on this cell")
        at = time.time() - self.config["account_lag_s"]
        jobs: list[Job] = []
        if "-" in words:
            for job_id in stdin.decode().split():
                jobs += self.store.named(job_id)
        else:
            jobs = list(self.store.jobs.values())
        rows = [job.row(at) for job in jobs if job.over and job.ended is not None and job.ended <= at]
        return Answer(0, table([row for row in rows if row is not None]))

    def _control(self, words: list[str], stdin: bytes) -> Answer:
        action = words[0] if words else ""
        options = dict(_split(words[1:])[0])
        number = int(options["signal"]) if "signal" in options else None
        if action not in ("cancel", "hold", "release", "suspend", "resume", "signal", "requeue"):
            raise Refused(f"no such action: {action}")
        lines = self._control_all(action, stdin.decode().split(), number, operator=False)
        code = 0 if all(line.split(" ")[1] == "ok" for line in lines) else 1
        return Answer(code, "".join(f"{line}\n" for line in [*lines, f"END {len(lines)}"]).encode())

    def _control_all(self, action: str, ids: list[str], number: int | None, operator: bool) -> list[str]:
        lines, now = [], time.time()
        for job_id in ids:
            jobs = self.store.named(job_id)
            if not jobs:
                lines.append(f"{job_id} unknown there is no job {job_id}")
                continue
            answers = [self.machine.control(action, job, number, now, operator) for job in jobs]
            word, text = next((answer for answer in answers if answer[0] == "ok"), answers[0])
            lines.append(f"{job_id} {word} {text}".rstrip())
        self.machine.schedule(now)
        return lines

    # What tests ask for

    def _admin(self, request: dict[str, Any]) -> Answer:
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "configure": self._configure,
            "fault": lambda request: self.faults.add(request["fault"]),
            "clear": lambda request: self.faults.waiting.clear(),
            "faults": lambda request: self.faults.waiting,
            "kinds": lambda request: KINDS,
            "number": lambda request: setattr(self.store, "next_number", request["number"]),
            "operate": lambda request: self._control_all(request["action"], request["ids"], None, operator=True),
            "jobs": lambda request: {job.id: [job.state, job.runs, job.spec.folder] for job in self.store.jobs.values()},
            "stop": self._stop,
        }
        result = answers[request["op"]](request)
        return Answer(0, json.dumps(result).encode())

    def _configure(self, request: dict[str, Any]) -> None:
        unknown = set(request["config"]) - set(self.settings)
        if unknown:
            raise ValueError(f"no such setting: {unknown}")
        self.config.update(request["config"])
        with open("config.json.new", "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        os.rename("config.json.new", "config.json")

    def _stop(self, request: dict[str, Any]) -> None:
        self.machine.kill_all()
        self.machine.reap(time.time())
        self.stopping = True


def _split(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options with their values, and the words after them. ``--`` ends the options, ``-`` is one of the words."""
    options, at = [], 0
    while at < len(words) and words[at].startswith("--"):
        if words[at] == "--":
            at += 1
            break
        key, equals, value = words[at][2:].partition("=")
        if not equals:
            at += 1
            if at >= len(words):
                raise Refused(f"option --{key} needs a value")
            value = words[at]
        options.append((key, value))
        at += 1
    return options, words[at:]


def _indices(text: str, most: int) -> tuple[list[int], int | None]:
    """``1-9:2,20%4``: the indices, and how many may run at a time."""
    ranges, _, cap = text.partition("%")
    indices: list[int] = []
    for part in ranges.split(","):
        span, _, step = part.partition(":")
        first, dash, last = span.partition("-")
        found = range(int(first), int(last if dash else first) + 1, int(step or 1))
        if len(indices) + len(found) > most:
            raise Refused(f"array of more than {most} tasks")
        indices += found
    if not indices or len(set(indices)) != len(indices):
        raise ValueError(text)
    return indices, int(cap) if cap else None


def main() -> None:
    """Serve the cell that the command line names; descriptor 3 is told when commands can come."""
    server = Server(sys.argv[1])
    os.write(3, b"!")
    os.close(3)
    server.run()
    if server.stopping:
        os.unlink("socket")
