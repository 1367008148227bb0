"""NQSV's commands: qsub, qstat, qdel, qhold, qrls, qwait.

Texts are from recordings that a user of Pegasus (University of Tsukuba) published, github.com/thawk105/izanagi: ``e3``, ``e14``,
``e15``, ``e16`` are its evidence/*-manifest.md of [T-1852], ``verbatim`` its qstat-qsub-behaviour-verbatim.md, ``t1852`` the report
of them, ``runbook`` its docs/pegasus-runbook.md; from the executor of github.com/ExaWorks/psij-python (``psij``), and from
scripts of users (``scripts``: the options of #PBS lines). ``unproven``: none of these shows it.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, ClassVar

from ...standin.programs.machine import kill_session
from .common import ACTIVE, Answer, Job, Lookalike, Machine, Refusal, Spec, Variables, joined, options, read_script, user

__all__ = ["STYLE", "Nqsv"]

TAKE = "AabBdefjlmMNoprqSstTuvy"  # scripts: A b B e j l m M N o q r t T v y; the others unproven
FLAGS = "hVxz"
LONG = {"after", "group", "cpunum-lhost", "gpunum-lhost", "memsz-lhost", "warning-signal", "accept-sigterm", "custom", "exclusive"}
RESOURCES = {"elapstim_req", "cputim_prc", "cputim_job", "cpunum_job", "memsz_job", "gpunum_job", "vmemsz_job"}  # verbatim
STATES = {
    "PENDING": "Queued",  # e14
    "WAITING": "Waiting",  # unproven
    "HELD_USER": "Held",  # unproven
    "HELD_SYSTEM": "Held",
    "HELD_BOTH": "Held",
    "RUNNING": "Running",  # runbook
    "SUSPENDED": "Suspended",  # unproven
    "ENDING": "Running",
}


class Abrupt(Variables):
    """A machine that ends jobs with KILL, at once and all of them: t1852, E4 and E6; TERM does nothing there (E16)."""

    def end(self, job: Job, word: str, now: float) -> None:
        job.end_word, job.state = word, "ENDING"
        self.store.save(job, now)
        kill_session(job.pid)


class Nqsv(Lookalike):
    """An NQSV batch server. ``shown_s``: how long a request is shown after its end; with ``history`` off it is not at all."""

    settings: ClassVar[dict[str, Any]] = {**Lookalike.settings, "queues": ["gen_S", "gen_M"], "host": "nqsv", "shown_s": 6.0}
    verbs: ClassVar[dict[str, str]] = {"qsub": "submit", "qstat": "queue", "qdel": "control", "qhold": "control", "qrls": "control"}

    def _machine(self, spool: str) -> Machine:
        machine = Abrupt(self.store, self.config, spool)
        machine.lookalike = self
        return machine

    def away(self, program: str) -> Answer:
        return Answer(1, b"", b"Cannot connect to the batch server. (nqsv)\n")  # unproven

    def variables(self, job: Job) -> dict[str, str]:
        """runbook: the id within a job has the job's number before it."""
        return {"PBS_JOBID": f"0:{self.shown(job)}", "PBS_O_WORKDIR": job.spec.more["workdir"], "PBS_JOBNAME": job.spec.name}

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["-V"]:
            return Answer(0, b"NEC Network Queuing System V (NQSV) R1.12\n")  # unproven
        if program == "qsub":
            return self.qsub(words, folder)
        if program == "qstat":
            return self.qstat(words)
        return self.control(program, words) if program != "qwait" else Answer(1, b"", b"qwait error\n")  # psij

    def shown(self, job: Job) -> str:
        return f"{job.spec.number}.{self.config['host']}"

    def jobs_of(self, text: str) -> list[Job]:
        match = re.fullmatch(r"([0-9]+)(\..*)?", text)
        if match is None or (match[2] and match[2] != f".{self.config['host']}"):
            return []
        return [job for job in self.store.named(match[1]) if not self.gone(job)]

    def gone(self, job: Job) -> bool:
        """t1852: shown for six seconds after its end; one that was deleted before it ran, not at all."""
        if not job.over:
            return False
        shown_s = self.config["shown_s"] if self.config["history"] and job.runs else 0.0
        return job.ended is None or job.ended + shown_s <= time.time()

    # Submission

    def qsub(self, words: list[str], folder: str) -> Answer:
        long = [word for word in words if word.startswith("--")]
        for word in long:
            if word[2:].partition("=")[0] not in LONG:
                raise Refusal(1, f"Invalid option: {word}\nRequest not queued.\n")  # unproven
        try:
            given, rest = options([word for word in words if not word.startswith("--")], TAKE, FLAGS)
        except KeyError as error:
            raise Refusal(1, f"Invalid option: {error}\nRequest not queued.\n") from error  # unproven
        spec = Spec(folder=os.path.expanduser("~"), queue="gen_S", name="STDIN", submitted=time.time(), more={"workdir": folder})
        held = False
        for letter, value in given:
            if letter == "h":
                held = True
            else:
                self._take(spec, letter, value)
        if not rest:
            raise Refusal(1, "No script file.\nRequest not queued.\n")  # unproven
        script = read_script(
            os.path.join(folder, rest[0]), Refusal(1, f"Cannot open {rest[0]}.\nRequest not queued.\n")
        )  # unproven
        if spec.queue not in self.config["queues"]:
            raise Refusal(1, f"Queue: {spec.queue} does not exist.\nRequest not queued.\n")  # unproven
        jobs = self.take(spec, script, held=held)
        return Answer(0, joined([f"Request {self.shown(jobs[0])} submitted to queue: {spec.queue}."]))  # e14

    def _take(self, spec: Spec, letter: str, value: str) -> None:
        if letter == "l":
            name, _, text = value.partition("=")
            if name not in RESOURCES or not text:
                syntax = "Syntax: -l resource_list[,resource_list,...]"
                raise Refusal(1, f"Invalid syntax following -l flag.\n{syntax}\nRequest not queued.\n")  # verbatim
            if name == "elapstim_req":
                total = 0
                for part in text.split(":"):
                    total = total * 60 + int(part)
                spec.walltime = float(total)
            elif name == "cpunum_job":
                spec.cores = int(text)
            elif name == "gpunum_job":
                spec.gpus = int(text)
        elif letter == "N":
            if len(value) > 63:  # NqsiiExecutor of github.com/nextflow-io/nextflow cuts names there
                raise Refusal(1, "Request name is too long.\nRequest not queued.\n")  # unproven
            spec.name = value
        elif letter in self.kept:
            setattr(spec, self.kept[letter], value)
        elif letter == "r":
            spec.rerun = value == "y"

    # Questions

    def qstat(self, words: list[str]) -> Answer:
        jobs_only = "-J" in words
        ids = [word for word in words if not word.startswith("-")]
        lines: list[str] = []
        for text in ids:
            found = self.jobs_of(text)
            if jobs_only and not (found and found[0].runs):
                lines.append(f"Batch Job: {text} does not exist.")  # e14: exit 0
            elif not found:
                lines.append(f"Batch Request: {text} does not exist on {self.config['host']}.")  # verbatim: exit 0
            else:
                lines += self.job(found[0]) if jobs_only else self.request(found[0])
        if not ids:
            for job in self.store.jobs.values():
                if not self.gone(job):
                    lines += self.request(job)
        return Answer(0, joined(lines))

    def state(self, job: Job) -> tuple[str, str, str]:
        """Current State, Previous State, State Transition Reason."""
        if not job.over:
            word = STATES[job.state]
            if word == "Running":
                return word, "Pre-running", "PRERUN_SUCCESS"  # runbook
            return word, "(none)", "SUBMIT"  # e14
        if job.ended is not None and job.ended + self.config["shown_s"] - 0.5 <= time.time():
            return "Exiting", "Post-running", "POSTRUN_SUCCESS"  # e15
        return "Post-running", "Running", "DELETE" if job.state == "CANCELLED" else "EXIT"  # t1852: E4; e15

    def request(self, job: Job) -> list[str]:
        """qstat -f: the groups and their order are those of e15, some left out."""
        spec = job.spec
        now, before, reason = self.state(job)
        began, ended = job.began if job.runs else None, job.ended if job.runs else None
        if job.over and job.state == "TIMEOUT" and began is not None and spec.walltime is not None:
            ended = began + spec.walltime  # e15: to the second
        elapsed = int((ended or time.time()) - began) if began is not None else 0
        limit = f"{int(spec.walltime)}S" if spec.walltime is not None else "UNLIMITED"
        fields = [
            ("Request Name", spec.name),
            ("User  Name", user()),
            ("Current State          ", now),
            ("Previous State         ", before),
            ("State Transition Time  ", date(job.history[-1][0])),
            ("State Transition Reason", reason),
            ("Queue", f"{spec.queue}@{self.config['host']} (Execution Queue)"),
            ("Request Priority ", spec.priority),
            ("Rerunable   ", "Yes" if spec.rerun else "No"),
            ("Holdable    ", "Yes"),
            ("Hold Type   ", {"HELD_USER": "USER", "HELD_SYSTEM": "OPERATOR", "HELD_BOTH": "USER"}.get(job.state, "(none)")),
            ("Suspend Type", "(none)"),
            ("Account Code", spec.account or "(none)"),  # the words of Hold Type: unproven
            ("Stdout", f"{self.config['host']}:/dev/null"),
            ("Created Request Time", date(spec.submitted)),
            ("Started Request Time", date(began)),
            ("Ended Request Time  ", date(ended)),
        ]
        lines = [f"Request ID: {self.shown(job)}", *(f"    {name} = {value}" for name, value in fields)]
        lines += ["  Resources Information:", "    Memory    = 0.000000B", f"    Elapse    = {elapsed}S"]
        lines += ["  Resources Limits:", f"    (Per-Req) Elapse Time Limit       = Max: {limit:>9} Warn: {limit:>9} "]
        return [*lines, "  User Attributes:", "    (none)"]

    def job(self, job: Job) -> list[str]:
        """qstat -J -f: e15. The exit code is a wait status in hexadecimal digits (t1852, section 4)."""
        code = "(none)"
        if job.over and job.state in ("CANCELLED", "TIMEOUT"):
            code = "9"  # E4, E6: the shell around the script, too
        elif job.over:
            code = f"{(128 + job.signal if job.signal is not None else job.code or 0) << 8:X}"  # e3: 8900 of SIGKILL
        lines = ["    Batch Job Number = 0", "    Execution Job ID = (none)", f"    User  Name = {user()}"]
        lines += ["    Execution Host = node1", f"    Exit Code = {code}", "  Resources Information:", "    Memory    = 0.000000B"]
        return [f"Request ID: {self.shown(job)}", *lines]

    # Control

    def control(self, program: str, words: list[str]) -> Answer:
        """runbook and t1852 tell what qdel does, not what it says; the sentences are as qsig's (e16)."""
        ids = options(words, "g", "")[1]
        lines: list[str] = []
        errors: list[str] = []
        for text in ids:
            jobs = self.jobs_of(text)
            if not jobs or jobs[0].over:
                errors.append(f"Batch Request: {text} does not exist on {self.config['host']}.")  # unproven of these commands
            elif program == "qdel":
                self.act("cancel", jobs)
                lines.append(f"Request {text} was deleted.")  # unproven
            elif jobs[0].state in ACTIVE:
                errors.append(f"Request {text}: Invalid request state.")  # unproven
            else:
                self.act("hold" if program == "qhold" else "release", jobs)
                lines.append(f"Request {text} was {'held' if program == 'qhold' else 'released'}.")  # unproven
        return Answer(1 if errors else 0, joined(lines), joined(errors))


STYLE = Nqsv


def date(moment: float | None) -> str:
    """e15; with TZ=UTC0."""
    return "(none)" if moment is None else time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(moment))
