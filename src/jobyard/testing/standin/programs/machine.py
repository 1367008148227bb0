"""The stand-in's machine: it books slots, memory and GPUs, starts jobs, signals them, and sees how they end."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import time
from typing import Any

from .jobs import ACTIVE, WAITING, Job, Store

PAGE_KB = resource.getpagesize() // 1024


class Machine:
    """Runs the jobs of a store within the limits of a configuration."""

    def __init__(self, store: Store, config: dict[str, Any], spool: str) -> None:
        self.store = store
        self.config = config
        self.spool = spool
        self.waiting: list[Job] = [job for job in store.jobs.values() if job.state in WAITING]
        self.running: dict[str, Job] = {job.id: job for job in store.jobs.values() if job.state in ACTIVE}
        self.adopted: list[Job] = []
        self._order()
        for job in list(self.running.values()):
            self._adopt(job)

    # Starting

    def add(self, jobs: list[Job]) -> None:
        self.waiting += jobs
        self._order()

    def _order(self) -> None:
        self.waiting.sort(key=lambda job: (-job.spec.priority, job.spec.submitted, job.spec.number))

    def schedule(self, now: float) -> None:
        """Start what can be started; tell of the others why they wait."""
        slots = 0 if self.config["paused"] else self.config["slots"] - sum(job.spec.cores for job in self.running.values())
        memory = self.config["memory"] - sum(job.spec.memory for job in self.running.values())
        gpus = self.config["gpus"] - sum(job.spec.gpus for job in self.running.values())
        caps: dict[int, int] = {}
        for job in self.running.values():
            caps[job.spec.number] = caps.get(job.spec.number, 0) + 1
        left: list[Job] = []
        for job in self.waiting:
            if job.state not in WAITING:
                continue
            left.append(job)
            state, reason = self._why_waits(job, now)
            if state == "DEPENDENCY":
                left.pop()
                self._finish(job, "DEPENDENCY", now, reason)
                continue
            spec = job.spec
            if state == "PENDING" and spec.cap is not None and caps.get(spec.number, 0) >= spec.cap:
                reason = "ArrayLimit"
            elif state == "PENDING" and (spec.cores > slots or spec.memory > memory or spec.gpus > gpus):
                reason = "Resources"
            elif state == "PENDING":
                left.pop()
                slots, memory, gpus = slots - spec.cores, memory - spec.memory, gpus - spec.gpus
                caps[spec.number] = caps.get(spec.number, 0) + 1
                self._start(job, now)
                continue
            if (job.state, job.reason) != (state, reason):
                job.state, job.reason = state, reason
                self.store.save(job, now)
        self.waiting = left

    def _why_waits(self, job: Job, now: float) -> tuple[str, str]:
        for when, other_id in job.spec.after:
            others = self.store.named(other_id)
            bad = [other for other in others if other.over and not _satisfies(when, other)]
            if bad:
                return "DEPENDENCY", f"DependencyNeverSatisfied ({bad[0].id})"
        if job.hold_user or job.hold_system:
            return ("HELD_BOTH" if job.hold_user and job.hold_system else "HELD_USER" if job.hold_user else "HELD_SYSTEM"), "Held"
        if job.spec.begin is not None and job.spec.begin > now:
            return "WAITING", "BeginTime"
        for _, other_id in job.spec.after:
            if any(not other.over for other in self.store.named(other_id)):
                return "WAITING", "Dependency"
        return "PENDING", ""

    def _start(self, job: Job, now: float) -> None:
        user = pwd.getpwuid(os.getuid())
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": user.pw_dir,
            "USER": user.pw_name,
            "LOGNAME": user.pw_name,
            "SHELL": user.pw_shell or "/bin/sh",
            **self.variables(job),
        }
        job.runs += 1
        job.began, job.ended, job.code, job.signal, job.core = now, None, None, None, 0
        job.end_word, job.again, job.kill_at, job.stopped_at, job.stopped_s, job.reason = "", False, None, None, 0.0, ""
        try:
            job.pid = self._spawn(job, environment)
        except OSError as error:
            job.code = 1
            self._finish(job, "FAILED", now, f"{error.strerror}: {os.fsdecode(error.filename)}")
            return
        job.birth = birth_of(job.pid)
        job.state = "RUNNING"
        self.running[job.id] = job
        self.store.save(job, now)

    def variables(self, job: Job) -> dict[str, str]:
        """What the environment of a job tells of itself."""
        found = {"STANDIN_JOB_ID": job.id, "STANDIN_RUN": str(job.runs + 1)}
        if job.index is not None:
            found["STANDIN_TASK"] = str(job.index)
            found["STANDIN_ARRAY"] = str(job.spec.number)
        return found

    def _spawn(self, job: Job, environment: dict[str, str]) -> int:
        spec = job.spec
        # Relative names lie in the job's folder, as with the schedulers that it stands in for.
        out = os.open(os.path.join(spec.folder, spec.out), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        err = out
        try:
            if spec.err is not None:
                err = os.open(os.path.join(spec.folder, spec.err), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            process = subprocess.Popen(
                ["/bin/sh", os.path.join(self.spool, str(spec.number)), *spec.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=spec.folder,
                env={os.fsencode(key): os.fsencode(value) for key, value in environment.items()},
                start_new_session=True,
            )
        finally:
            os.close(out)
            if err != out:
                os.close(err)
        process.returncode = 0  # it is waited for below, with its usage
        return process.pid

    # Ending

    def reap(self, now: float) -> None:
        """See which jobs have ended."""
        by_pid = {job.pid: job for job in self.running.values()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            signal_group(ended.si_pid, signal.SIGKILL)  # what it left behind; its number is not used again before it is waited for
            _, status, usage = os.wait4(ended.si_pid, 0)
            job = by_pid.get(ended.si_pid)
            if job is None:
                continue
            job.user_s, job.system_s, job.rss_kb = usage.ru_utime, usage.ru_stime, usage.ru_maxrss
            if os.WIFSIGNALED(status):
                job.signal, job.core = os.WTERMSIG(status), int(os.WCOREDUMP(status))
                self._ended(job, "SIGNALED", now)
            else:
                job.code = os.WEXITSTATUS(status)
                self._ended(job, "FAILED" if job.code else "COMPLETED", now)

    def _ended(self, job: Job, word: str, now: float) -> None:
        self.running.pop(job.id, None)
        job.pid = 0
        if job.again:
            job.again, job.end_word, job.kill_at, job.state, job.reason = False, "", None, "PENDING", "Requeued"
            self.store.save(job, now)
            self.add([job])
            return
        self._finish(job, job.end_word or word, now)

    def _finish(self, job: Job, word: str, now: float, reason: str = "") -> None:
        job.state, job.ended, job.kill_at, job.reason = word, now, None, reason
        self.store.save(job, now)

    def _adopt(self, job: Job) -> None:
        """A new server finds a job that the one before it started: it can see it end, not how."""
        if job.pid and birth_of(job.pid) == job.birth:
            self.adopted.append(job)
        else:
            self._ended(job, "LOST", time.time())

    def look_at_adopted(self, now: float) -> None:
        for job in list(self.adopted):
            if birth_of(job.pid) != job.birth:
                self.adopted.remove(job)
                self._ended(job, "LOST", now)

    # Limits

    def enforce(self, now: float) -> None:
        """Walltime, memory, and KILL for those that had their grace."""
        for job in list(self.running.values()):
            if job.kill_at is not None:
                if now >= job.kill_at:
                    kill_session(job.pid)
                    job.kill_at = now + 1.0
                continue
            if job.end_word:
                continue
            spec, began = job.spec, job.began or now
            stopped_s = job.stopped_s + (now - job.stopped_at if job.stopped_at is not None else 0.0)
            if (spec.walltime is not None and now >= began + spec.walltime) or (
                spec.run_time is not None and now >= began + spec.run_time + stopped_s
            ):
                self.end(job, "TIMEOUT", now)
            elif spec.memory and session_rss_kb(job.pid) * 1024 > spec.memory:
                job.end_word = "OUT_OF_MEMORY"
                job.state = "ENDING"
                self.store.save(job, now)
                kill_session(job.pid)

    def next_moment(self, now: float) -> float | None:
        """When enforce or schedule has something to do next."""
        moments: list[float] = []
        for job in self.running.values():
            if job.kill_at is not None:
                moments.append(job.kill_at)
            elif not job.end_word:
                if job.spec.walltime is not None:
                    moments.append((job.began or now) + job.spec.walltime)
                if job.spec.run_time is not None and job.stopped_at is None:
                    moments.append((job.began or now) + job.spec.run_time + job.stopped_s)
                if job.spec.memory:
                    moments.append(now + 0.2)
        moments += [job.spec.begin for job in self.waiting if job.spec.begin is not None and job.spec.begin > now]
        if self.adopted:
            moments.append(now + 0.05)
        return min(moments) if moments else None

    def end(self, job: Job, word: str, now: float) -> None:
        """TERM now, KILL after the grace."""
        job.end_word, job.state = word, "ENDING"
        job.kill_at = now + self.config["kill_grace_s"]
        self.store.save(job, now)
        signal_group(job.pid, signal.SIGCONT)
        signal_group(job.pid, signal.SIGTERM)

    # Control

    def control(self, action: str, job: Job, number: int | None, now: float, operator: bool) -> tuple[str, str]:
        """What the answer's line says: ok, state or denied, and why."""
        if job.over:
            return "state", f"job {job.id} has ended"
        waits = job.state in WAITING
        if action == "cancel":
            if waits:
                self._finish(job, "CANCELLED", now)
            elif not job.end_word:
                job.again = False
                self.end(job, "CANCELLED", now)
            return "ok", ""
        if action in ("hold", "release"):
            if not waits:
                return "state", f"job {job.id} is running"
            if operator:
                job.hold_system = action == "hold"
            else:
                if action == "release" and job.hold_system and not job.hold_user:
                    return "denied", f"job {job.id} is held by an operator"
                job.hold_user = action == "hold"
            return "ok", ""
        if waits or job.end_word:
            return "state", f"job {job.id} is not running"
        if action == "suspend" and job.state == "RUNNING":
            signal_group(job.pid, signal.SIGSTOP)
            job.state, job.stopped_at = "SUSPENDED", now
        elif action == "resume" and job.state == "SUSPENDED":
            signal_group(job.pid, signal.SIGCONT)
            job.state, job.stopped_s, job.stopped_at = "RUNNING", job.stopped_s + now - (job.stopped_at or now), None
        elif action == "signal" and number is not None:
            signal_group(job.pid, number)
            return "ok", ""
        elif action == "requeue":
            if job.state == "SUSPENDED":
                return "state", f"job {job.id} is suspended"
            if not job.spec.rerun and not operator:
                return "denied", f"job {job.id} was submitted as not rerunnable"
            self.end(job, "", now)
            job.again = True
        elif action == "fail-node" and operator:
            job.end_word = "NODE_FAIL"
            kill_session(job.pid)
            return "ok", ""
        else:
            return "state", f"job {job.id} is {job.state.lower()}"
        self.store.save(job, now)
        return "ok", ""

    def kill_all(self) -> None:
        for job in self.running.values():
            kill_session(job.pid)


def _satisfies(when: str, other: Job) -> bool:
    if when == "any":
        return True
    return bool((other.state == "COMPLETED") == (when == "success"))


def signal_group(pid: int, number: int) -> None:
    """Signal a job's process group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass  # it ended just now


def session_members(pid: int) -> list[int]:
    """The processes of the session that a job's leader began."""
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and fields[3] == str(pid):
                members.append(int(name))
    return members


def kill_session(pid: int) -> None:
    """KILL all of a job."""
    for member in session_members(pid):
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended just now


def session_rss_kb(pid: int) -> int:
    """Resident memory of all of a job."""
    return sum(int(fields[21]) * PAGE_KB for fields in map(_stat, session_members(pid)) if fields)


def birth_of(pid: int) -> str:
    """The kernel's start time of a process that is alive; "" where there is none."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field (state) on; empty where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].decode().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
