"""Flux's command: flux submit, jobs, cancel, job kill, job urgency.

Where a text was seen stands beside it: the name of a recording of Flux 0.88 (tests/data/flux), or ``unproven``.
"""

from __future__ import annotations

import json
import os
import re
import signal as signals
import time
from typing import Any, ClassVar

from .common import ACTIVE, WAITING, Answer, Job, Lookalike, Refusal, Spec, joined, read_script, user

__all__ = ["STYLE", "Flux"]

VERSION = ["commands:    \t\t0.88.0", "libflux-core:\t\t0.88.0", "broker:  \t\t0.88.0"]  # version
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
WHEN = {"afterok": "success", "afternotok": "failure", "afterany": "any"}
SHOWN = {
    "afterok": "after-success",
    "afternotok": "after-failure",
    "afterany": "after-finish",
}  # jobs-active; the last two unproven
RESULTS = {"COMPLETED": "COMPLETED", "CANCELLED": "CANCELED", "TIMEOUT": "TIMEOUT"}
EXCEPTIONS = {
    "CANCELLED": ("cancel", ""),  # jobs-all: cancelrun, queued, held
    "TIMEOUT": ("timeout", "resource allocation expired"),  # jobs-all: timeout
    "DEPENDENCY": ("dependency", "dependency can never be satisfied"),  # depend-after
    "UNSATISFIABLE": ("alloc", "unsatisfiable request"),  # jobs-all: unsat
}
FIRST = 34_359_738_368  # so that ids are as long as recorded ones


class Flux(Lookalike):
    """A Flux instance. ``history``: false where ended jobs are purged at once."""

    settings: ClassVar[dict[str, Any]] = {**Lookalike.settings, "queues": ["batch", "debug"]}
    kept: ClassVar[dict[str, str]] = {"--job-name": "name", "--cwd": "folder", "--queue": "queue"}

    def _verb(self, name: str, words: list[str]) -> str:
        super()._verb(name, words)
        verbs = {"submit": "submit", "jobs": "queue", "cancel": "control", "job": "control"}
        return verbs.get(words[0] if words else "", name)

    def away(self, program: str) -> Answer:  # err-no-broker
        return Answer(1, b"", b"flux-jobs: ERROR: Unable to connect to Flux: broker socket /tmp/nosuch was not found\n")

    def variables(self, job: Job) -> dict[str, str]:
        found = {"FLUX_JOB_ID": base58(self.number(job)), **job.spec.more["environment"]}  # facts: section 5
        return found if job.index is None else {**found, "FLUX_JOB_CC": str(job.index)}

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["--version"]:
            return Answer(0, joined(VERSION))
        verb, rest = words[0], words[1:]
        if verb == "submit":
            return self.submit(rest)
        if verb == "jobs":
            return self.listing(rest)
        if verb == "cancel":
            return self.cancel(rest)
        if verb == "job":
            return self.kill(rest[1:]) if rest[0] == "kill" else self.urgency(rest[1:])
        raise Refusal(1, f"flux: `{verb}' is not a flux command.  See 'flux --help'\n")  # unproven

    # Ids: 64 bits, of which the lowest count jobs that are submitted together (submit-ok-cc)

    def number(self, job: Job) -> int:
        place = 0 if job.index is None or job.spec.indices is None else job.spec.indices.index(job.index)
        return FIRST + (job.spec.number << 24) + place

    def job_of(self, text: str) -> Job | None:
        """One that has not been purged, by any form of its id (jobid-formats)."""
        number = int(text) if text.isdigit() else from_base58(text)
        if number is None or number < FIRST:
            return None
        jobs = self.store.named(str((number - FIRST) >> 24))
        found = next((job for job in jobs if self.number(job) == number), None)
        return None if found is None or self.purged(found) else found

    def purged(self, job: Job) -> bool:
        return job.over and not self.config["history"]

    # Submission

    def submit(self, words: list[str]) -> Answer:
        more: dict[str, Any] = {"environment": {}, "depend": [], "urgency": 16}
        spec = Spec(folder="/", name="", queue="", submitted=time.time(), more=more)
        at = 0
        while at < len(words) and words[at].startswith("-"):
            self._take(spec, words[at])
            at += 1
        if at == len(words):
            raise Refusal(1, "flux-submit: ERROR: job command and arguments are missing\n")  # err-no-command
        if spec.queue and spec.queue not in self.config["queues"]:
            raise Refusal(1, f"[Errno 22] '{spec.queue}' is not a valid queue\n")  # err-no-queue
        missing = Refusal(1, f"flux-submit: ERROR: [Errno 2] No such file or directory: '{words[at]}'\n")  # unproven
        spec.name = spec.name or os.path.basename(words[at])
        spec.words = words[at + 1 :]
        spec.priority = more["urgency"]
        jobs = self.take(spec, read_script(words[at], missing), held=more["urgency"] == 0)
        if self.impossible(spec):  # err-unsatisfiable: accepted, and failed at once
            for job in jobs:
                job.state, job.ended = "UNSATISFIABLE", time.time()
                self.store.save(job, job.ended)
        return Answer(0, joined([base58(self.number(job)) for job in jobs]))  # submit-ok, submit-ok-cc

    def _take(self, spec: Spec, word: str) -> None:
        name, _, value = word.partition("=")
        more = spec.more
        if re.fullmatch(r"-[ncgN][0-9]+", word):
            if word[1] == "c":
                spec.cores = int(word[2:])
            elif word[1] == "g":
                spec.gpus = int(word[2:])
        elif name in self.kept:
            setattr(spec, self.kept[name], value)
        elif name == "--env":
            if value != "-*":
                key, _, text = value.partition("=")
                more["environment"][key] = text
        elif name == "--cc":
            spec.indices = []
            for part in value.split(","):
                first, dash, last = part.partition("-")
                spec.indices += range(int(first), int(last if dash else first) + 1)
        elif name == "--time-limit":
            if not re.fullmatch(r"[0-9.]+s", value):
                raise Refusal(1, "flux-submit: ERROR: invalid Flux standard duration\n")  # err-bad-duration
            spec.walltime = float(value[:-1])
        elif name == "--urgency":
            more["urgency"] = int(value)
        elif name == "--dependency":
            self._depend(spec, value)
        elif name not in ("--output", "--error", "--bank", "--exclusive"):
            usage = f"usage: flux submit [OPTIONS...] COMMAND [ARGS...]\nflux submit: error: unrecognized arguments: {word}\n"
            raise Refusal(2, usage)  # err-bad-option

    def _depend(self, spec: Spec, value: str) -> None:
        scheme, _, text = value.partition(":")
        if scheme == "begin-time":
            spec.begin = float(text)
            spec.more["depend"].append(f"begin@{time.strftime('%H:%M:%S', time.gmtime(spec.begin))}")  # jobs-active: begin
            return
        if scheme not in WHEN:
            raise Refusal(1, f'[Errno 22] dependency scheme "{scheme}" not supported\n')  # err-bad-dependency
        job = self.job_of(text)
        if job is None:
            raise Refusal(1, f"[Errno 22] dependency: {scheme}: id {text}: job not found\n")  # err-bad-dependency2
        spec.after.append((WHEN[scheme], job.id))
        spec.more["depend"].append(f"{SHOWN[scheme]}={base58(self.number(job))}")

    # Questions

    def listing(self, words: list[str]) -> Answer:
        ids = [word for word in words if not word.startswith("-") and (word.isdigit() or from_base58(word)) and word != "0"]
        known = [job for job in self.store.jobs.values() if not self.purged(job)]
        if "-o" in words:  # flux jobs -o '{id.dec} {cwd}' (facts: section 6)
            return Answer(0, joined([f"{self.number(job)} {job.spec.folder}" for job in known]))
        if not ids:
            shown = known if "-a" in words else [job for job in known if not job.over]
            return Answer(0, joined([json.dumps({"jobs": [self.entry(job) for job in shown]})]))  # jobs-all, jobs-empty
        found = [job for one in ids if (job := self.job_of(one)) is not None]
        err = [f"JobID {one} unknown" for one in ids if self.job_of(one) is None]  # err-jobs-unknown-json, jobs-mixed
        if not found:
            return Answer(1, b"", joined(err))
        entries = [self.entry(job) for job in found]
        return Answer(
            0, joined([json.dumps(entries[0] if len(ids) == 1 else {"jobs": entries})]), joined(err)
        )  # jobs-one, jobs-two

    def entry(self, job: Job) -> dict[str, Any]:
        """One job: jobs-all; the order of fields is as there."""
        spec, ran = job.spec, job.runs > 0 and job.began is not None
        state = self.state(job)
        times: dict[str, Any] = {"t_depend": spec.submitted + 0.001}
        if state != "DEPEND":
            times |= {"t_priority": spec.submitted + 0.002, "t_sched": spec.submitted + 0.003}
        if ran:
            times["t_run"] = job.began
        if job.over:
            times |= {"t_cleanup": job.ended, "t_inactive": job.ended}
        fields = {
            **times,
            "duration": spec.walltime or 0.0,
            "name": spec.name,
            "cwd": spec.folder,
            "ntasks": 1,
            "ncores": spec.cores,
        }
        if ran:
            fields |= {"nnodes": 1, "priority": spec.priority, "ranks": "0", "nodelist": self.config["host"]}
        result = RESULTS.get(job.state, "FAILED")
        if job.over:
            fields |= {"success": result == "COMPLETED", "result": result}
        code = self.code(job)
        if job.over and ran:
            fields["waitstatus"] = code << 8
        fields |= {"id": self.number(job), "t_submit": spec.submitted, "state": state, "username": user(), "userid": os.getuid()}
        fields["urgency"] = 0 if job.hold_user else (spec.more["urgency"] or 16)
        if ran and job.began is not None:
            fields["runtime"] = (job.ended or time.time()) - job.began
        fields["status"] = result if job.over else state
        if job.over:
            fields["returncode"] = code
        waits = spec.more["depend"] if state == "DEPEND" else []
        fields |= {"dependencies": waits, "jobid": base58(self.number(job)), "annotations": {}}
        if job.over and job.state in EXCEPTIONS:
            kind, note = EXCEPTIONS[job.state]
            fields["exception"] = {"occurred": True, "severity": 0, "type": kind, "note": note}
        else:
            fields["exception"] = {"occurred": False}
        return fields

    def state(self, job: Job) -> str:
        if job.over:
            return "INACTIVE"
        return {"WAITING": "DEPEND", "RUNNING": "RUN", "SUSPENDED": "RUN", "ENDING": "CLEANUP"}.get(job.state, "SCHED")

    def code(self, job: Job) -> int:
        """returncode: facts, "Flux: how jobs end"."""
        if job.state == "CANCELLED":
            return 143 if job.runs else -128
        if job.state == "TIMEOUT":
            return 142
        if not job.runs:
            return 1
        return 128 + job.signal if job.signal is not None else job.code or 0

    # Control

    def cancel(self, ids: list[str]) -> Answer:
        err: list[str] = []
        for text in ids:
            job = self.job_of(text)
            number = int(text) if text.isdigit() else from_base58(text) or 0
            if job is None:
                err.append(f"flux-cancel: ERROR: {base58(number)}: unknown job id")  # err-cancel-unknown
            elif job.over:
                err.append(f"flux-cancel: ERROR: {base58(number)}: job is inactive")  # cancel-finished
            else:
                self.act("cancel", [job])
        return Answer(1 if err else 0, b"", joined(err))

    def kill(self, words: list[str]) -> Answer:
        name, text = words[1], words[2]
        job = self.job_of(text)
        why = None
        if job is None:
            why = "unknown job id"  # err-kill-unknown
        elif job.state not in ACTIVE:
            why = "job is inactive" if job.over else "job is not running"  # kill-finished, kill-pending
        else:
            self.act("signal", [job], int(signals.Signals[name]))  # kill-9-rc
        return Answer(0) if why is None else Answer(1, b"", f"flux-job: kill {text}: {why}\n".encode())

    def urgency(self, words: list[str]) -> Answer:
        text, value = words
        job = self.job_of(text)
        why = None
        if job is None:
            why = "unknown job"  # err-urgency-unknown
        elif job.over:
            why = "job is inactive"  # unproven
        elif job.state not in WAITING:
            why = "urgency cannot be changed once resources are allocated"  # urgency-running
        else:
            self.act("hold" if value == "0" else "release", [job])  # urgency-release-rc
        return Answer(0) if why is None else Answer(1, b"", f"flux-job: {text}: {why}\n".encode())


STYLE = Flux


def base58(number: int) -> str:
    """As Flux prints an id in a UTF-8 locale."""
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "ƒ" + (text or "1")


def from_base58(text: str) -> int | None:
    if not re.fullmatch(rf"[fƒ][{BASE58}]+", text):
        return None
    number = 0
    for letter in text[1:]:
        number = number * 58 + BASE58.index(letter)
    return number
