"""LSF's commands: bsub, bjobs, bkill, bstop, bresume, bparams.

Texts are those that users published: ``roddy`` (LSFJobManagerSpec of github.com/TheRoddyWMS/BatchEuphoria), ``ceems`` (the LSF
tests of github.com/ceems-dev/ceems), ``ert`` (the LSF driver's tests of github.com/equinor/ert), ``ridgeback`` (the LSF client's
tests of github.com/mskcc/ridgeback), ``openlava`` (the messages of github.com/openlava/openlava, LSF's relative), ``jasmin`` (the
user guide of help.jasmin.ac.uk); or stand in IBM's command reference (``manual``). ``unproven``: none of these shows it. A setting,
``minute_s``, says how long a minute is here.
"""

from __future__ import annotations

import json
import re
import signal as signals
import time
from typing import Any, ClassVar

from .common import ACTIVE, WAITING, Answer, Job, Lookalike, Refusal, Spec, joined

__all__ = ["STYLE", "Lsf"]

FLAGS = frozenset({"-B", "-N", "-Ne", "-r", "-rn", "-x", "-ul", "-ti", "-H"})
WHEN = {"done": "success", "exit": "failure", "ended": "any"}
STATES = {
    "PENDING": "PEND",
    "WAITING": "PEND",
    "HELD_USER": "PSUSP",
    "HELD_SYSTEM": "PSUSP",
    "HELD_BOTH": "PSUSP",
    "RUNNING": "RUN",
    "SUSPENDED": "USUSP",
    "ENDING": "RUN",
    "COMPLETED": "DONE",
}
REASONS = {  # manual: termination reasons; TERM_OWNER also ert
    "CANCELLED": "TERM_OWNER: job killed by owner",
    "TIMEOUT": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    "DEPENDENCY": "TERM_ORPHAN_SYSTEM: The orphan job was automatically terminated by LSF",
}


class Lsf(Lookalike):
    """An LSF cluster. ``history``: false where ended jobs are forgotten at once (CLEAN_PERIOD 0)."""

    settings: ClassVar[dict[str, Any]] = {**Lookalike.settings, "queues": ["normal", "short"], "minute_s": 60.0}
    verbs: ClassVar[dict[str, str]] = {
        "bsub": "submit", "bjobs": "queue", "bkill": "control", "bstop": "control", "bresume": "control", "bparams": "limits"
    }  # fmt: skip
    kept: ClassVar[dict[str, str]] = {"q": "queue", "P": "account", "cwd": "folder"}

    def away(self, program: str) -> Answer:
        """ridgeback: on standard output, again and again; openlava: then it gives up."""
        return Answer(255, b"Cannot connect to LSF. Please wait ...\n" * 3, b"LSF is down. Please wait ...\n")

    def variables(self, job: Job) -> dict[str, str]:
        return {"LSB_JOBID": str(job.spec.number), "LSB_JOBINDEX": str(job.index or 0), "LSB_QUEUE": job.spec.queue}  # manual

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["-V"]:
            return Answer(0, b"", b"IBM Spectrum LSF Standard 10.1.0.0, May 27 2016\n")  # manual: bjobs -V, on standard error
        if program == "bsub":
            return self.bsub(words[:-1], stdin)  # without the client's own last word
        if program == "bjobs":
            return self.bjobs(words)
        if program == "bparams":
            return Answer(0, f"    MAX_JOB_ARRAY_SIZE = {self.config['max_array']}\n".encode())  # manual: bparams -a
        return self.control(program, words)

    def shown(self, job: Job) -> str:
        return str(job.spec.number) if job.index is None else f"{job.spec.number}[{job.index}]"

    def jobs_of(self, text: str) -> list[Job]:
        match = re.fullmatch(r"([0-9]+)(?:\[([0-9]+)\])?", text)
        if match is None:
            return []
        return [job for job in self.store.named(match[1] if match[2] is None else f"{match[1]}.{match[2]}") if not self.gone(job)]

    def gone(self, job: Job) -> bool:
        """Forgotten after CLEAN_PERIOD (manual: lsb.params)."""
        return self.forgotten(job)

    # Submission

    def bsub(self, words: list[str], stdin: bytes) -> Answer:
        spec = Spec(folder="/", queue="normal", name="", submitted=time.time(), more={"description": ""})
        held, at, default = False, 0, True
        while at < len(words):
            word, at = words[at], at + 1
            if word in FLAGS:
                held = held or word == "-H"
                spec.rerun = word == "-r" if word in ("-r", "-rn") else spec.rerun
                continue
            if not word.startswith("-") or at == len(words):
                raise Refusal(255, f"{word}: bad option. Job not submitted.\n")  # unproven
            value, at = words[at], at + 1
            default = default and word != "-q"
            self._take(spec, word[1:], value)
        if spec.queue not in self.config["queues"]:
            raise Refusal(255, f"{spec.queue}: No such queue. Job not submitted.\n")  # manual
        if spec.indices is not None and len(spec.indices) > self.config["max_array"]:
            raise Refusal(255, "Job array index too large. Job not submitted.\n")  # jasmin
        if not stdin.strip():
            raise Refusal(255, "Empty job. Job not submitted.\n")  # manual
        jobs = self.take(spec, stdin, held=held)
        which = f"default queue <{spec.queue}>" if default else f"queue <{spec.queue}>"
        return Answer(0, joined([f"Job <{jobs[0].spec.number}> is submitted to {which}."]))  # manual

    def _take(self, spec: Spec, name: str, value: str) -> None:
        if name == "J":
            match = re.fullmatch(r"([^\[\]%]*)(?:\[([0-9,:-]+)\](?:%([0-9]+))?)?", value)
            if match is None:
                raise Refusal(255, "Bad job name. Job not submitted.\n")  # openlava
            spec.name = match[1]
            if match[2]:
                first, _, last = match[2].partition("-")
                spec.indices, spec.cap = list(range(int(first), int(last or first) + 1)), int(match[3]) if match[3] else None
        elif name == "Jd":
            spec.more["description"] = value
        elif name in self.kept:
            setattr(spec, self.kept[name], value)
        elif name == "n":
            spec.cores = int(value)
        elif name == "gpu":
            spec.gpus = int(value.partition("=")[2])
        elif name == "W":
            hours, _, minutes = value.partition(":")
            spec.walltime = (int(hours) * 60 + int(minutes)) * self.config["minute_s"]
        elif name == "w":
            for part in value.split(" && "):
                match = re.fullmatch(r"(done|exit|ended)\(([0-9\[\]]+)\)", part)
                jobs = self.jobs_of(match[2]) if match else []
                if match is None or not jobs:
                    raise Refusal(255, f"{match[2] if match else part}: No matching job found. Job not submitted.\n")  # openlava
                spec.after.append((WHEN[match[1]], jobs[0].id if "[" in match[2] else str(jobs[0].spec.number)))
        elif name not in ("o", "env", "R", "U"):
            raise Refusal(255, f"-{name}: Unknown option. Job not submitted.\n")  # unproven

    # Questions

    def bjobs(self, words: list[str]) -> Answer:
        at = words.index("-o")
        fields, ids = words[at + 1].split(), words[at + 2 :]
        found: list[dict[str, str]] = []
        for text in ids:
            jobs = self.jobs_of(text)
            found += [self.record(job, fields) for job in jobs]
            if not jobs:  # an error is a record (manual: bjobs -json); its exit code is unproven
                found.append({"JOBID": text, "ERROR": f"Job <{text}> is not found"})
        if not ids:
            found = [self.record(job, fields) for job in self.store.jobs.values() if not self.gone(job)]
            if not found:
                return Answer(0, b"", b"No job found\n")  # manual
        lines = ["{", '  "COMMAND":"bjobs",', f'  "JOBS":{len(found)},', '  "RECORDS":[']  # roddy: its form
        for number, record in enumerate(found, 1):
            pairs = [f"      {json.dumps(key)}:{json.dumps(value)}" for key, value in record.items()]
            lines += ["    {", *(f"{pair}," for pair in pairs[:-1]), pairs[-1], "    }" + ("," if number < len(found) else "")]
        return Answer(0, joined([*lines, "  ]", "}"]))

    def record(self, job: Job, fields: list[str]) -> dict[str, str]:
        """roddy and ceems: every value is text, empty where there is none."""
        wall = int((job.ended or time.time()) - job.began) if job.runs and job.began is not None else 0
        index = "" if job.index is None else f"[{job.index}]"
        known = {
            "jobid": str(job.spec.number),
            "jobindex": str(job.index or 0),
            "stat": STATES.get(job.state, "EXIT"),
            "job_name": f"{job.spec.name}{index}",
            "job_description": job.spec.more["description"],
            "exit_code": self.code(job),
            "exit_reason": REASONS.get(job.state, ""),
            "pend_reason": self.pending(job),
            "start_time": time.strftime("%b %e %H:%M", time.gmtime(job.began)) if job.runs and job.began is not None else "",
            "run_time": f"{wall} second(s)",
            "cpu_used": f"{job.user_s + job.system_s:.1f} second(s)" if job.runs else "",
            "max_mem": f"{job.rss_kb // 1024} Mbytes" if job.over and job.rss_kb else "",
            "exec_host": self.config["host"] if job.runs else "",
        }
        return {name.upper(): known[name] for name in fields}

    def code(self, job: Job) -> str:
        """EXIT_CODE: empty for DONE (roddy); 128 and the signal's number (manual)."""
        if not job.over or job.state in ("COMPLETED", "DEPENDENCY"):
            return ""
        if job.state == "CANCELLED":
            return "130" if job.runs else ""
        return str(128 + job.signal if job.signal is not None else job.code)

    def pending(self, job: Job) -> str:
        """PEND_REASON: the first is ert's, the others the manual's."""
        if job.state == "PENDING":
            slots = "Job requirements for reserving resource (slots) not satisfied;"
            return slots if job.reason == "Resources" else "New job is waiting for scheduling;"
        if job.state == "WAITING":
            return "Job dependency condition not satisfied;"
        return "The job was suspended by the user while pending;" if job.state.startswith("HELD") else ""

    # Control

    def control(self, program: str, words: list[str]) -> Answer:
        signal = words[1] if words[:1] == ["-s"] else None
        ids = words[2:] if signal is not None else words
        out: list[str] = []
        err: list[str] = []
        for text in ids:
            jobs = self.jobs_of(text)
            alive = [job for job in jobs if not job.over]
            if not jobs:
                err.append(f"Job <{text}>: No matching job found")  # manual
            elif not alive:
                err.append(f"Job <{text}>: Job has already finished")  # ert
            elif (said := self._act_on(program, signal, alive)) is not None:
                err.append(f"Job <{text}>: {said}")
            else:  # manual
                done = {"bkill": "signaled" if signal else "terminated", "bstop": "stopped", "bresume": "resumed"}[program]
                out.append(f"Job <{text}> is being {done}")
        return Answer(255 if err else 0, joined(out), joined(err))

    def _act_on(self, program: str, signal: str | None, jobs: list[Job]) -> str | None:
        waiting = [job for job in jobs if job.state in WAITING]
        active = [job for job in jobs if job.state in ACTIVE]
        if program == "bkill" and signal is None:
            self.act("cancel", jobs)
        elif program == "bkill":
            if not active:
                return "Job has not started yet"  # openlava
            number = int(signal) if signal and signal.isdigit() else int(signals.Signals[f"SIG{signal}"])
            for word, _ in self.act("signal", active, number):
                if word != "ok":
                    return "Signal not supported"  # openlava
        elif program == "bstop":
            self.act("hold", waiting)
            self.act("suspend", [job for job in active if job.state == "RUNNING"])
        else:
            self.act("release", waiting)
            self.act("resume", [job for job in active if job.state == "SUSPENDED"])
        return None


STYLE = Lsf
