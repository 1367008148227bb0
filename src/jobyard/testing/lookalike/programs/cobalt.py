"""Cobalt's commands: qsub, qstat, qdel, qhold, qrls, and the older cqsub.

Texts are those of Cobalt's source (github.com/ido/cobalt), beside each the file: ``client_utils`` (src/lib/client_utils.py),
``qsub``, ``qstat``, ``qdel`` (src/clients/POSIX), ``Util`` (src/lib/Util.py), ``cqm`` (src/lib/Components/cqm.py); or of outputs
that users published: ``arc`` (the job id tests of github.com/ReactionMechanismGenerator/ARC), ``harvester`` (the Cobalt monitor of
github.com/HSF/harvester). ``manual``: man/POSIX of the source. ``unproven``: none of these shows it. A setting, ``minute_s``,
says how long a minute is here.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, ClassVar

from .common import ACTIVE, WAITING, Answer, Job, Lookalike, Refusal, Spec, joined, options, read_script, user

__all__ = ["STYLE", "Cobalt"]

# manual: qsub. Long options by the letter that they have, where they have one.
LETTERS = {
    "project": "A", "error": "e", "held": "h", "inputfile": "i", "notify": "M", "nodecount": "n", "output": "o",
    "outputprefix": "O", "queue": "q", "umask": "u", "time": "t", "debug": "d", "kerneloptions": "K",
}  # fmt: skip
LONG = ("attrs", "cwd", "debuglog", "dependencies", "env", "jobname", "proccount", "kernel", "mode", "geometry", "user_list")
FLAGS = "hdv"
TAKE = "AeiMnoOqutK"
STATES = {  # cqm: __get_job_state
    "PENDING": "queued",
    "WAITING": "dep_hold",
    "HELD_USER": "user_hold",
    "HELD_SYSTEM": "admin_hold",
    "HELD_BOTH": "user_hold",
    "RUNNING": "running",
    "SUSPENDED": "running",
    "ENDING": "killing",
    "DEPENDENCY": "dep_fail",
}


class Cobalt(Lookalike):
    """A Cobalt queue manager. It forgets a job when it has ended, whatever ``history`` says."""

    settings: ClassVar[dict[str, Any]] = {**Lookalike.settings, "queues": ["default", "short"], "minute_s": 60.0}
    verbs: ClassVar[dict[str, str]] = {
        "qsub": "submit", "cqsub": "submit", "qstat": "queue", "qdel": "control", "qhold": "control", "qrls": "control"
    }  # fmt: skip
    kept: ClassVar[dict[str, str]] = {**Lookalike.kept, "cwd": "folder", "jobname": "name"}

    def away(self, program: str) -> Answer:
        return Answer(1, b"", b"component error: Failed to connect to queue-manager\n\n")  # client_utils: component_call

    def variables(self, job: Job) -> dict[str, str]:
        return {"COBALT_JOBID": job.id, "COBALT_PARTNAME": "1", "COBALT_PARTSIZE": str(job.spec.cores)}  # cqm; harvester

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["--version"]:
            return Answer(0, b"qsub 1.0.29, Cobalt  1.0.29\n")  # qsub: the version line; the numbers unproven
        if program in ("qsub", "cqsub"):
            return self.qsub(words, folder)
        return self.qstat(words) if program == "qstat" else self.control(program, words)

    def gone(self, job: Job) -> bool:
        """harvester: qstat does not know a job that has ended."""
        return job.over and job.state != "DEPENDENCY"

    def jobs_of(self, text: str) -> list[Job]:
        if not re.fullmatch("[0-9]+", text):
            raise Refusal(1, f"jobid must be an integer: {text}\n")  # client_utils: get_jobids
        return [job for job in self.store.named(text) if not self.gone(job)]

    # Submission

    def qsub(self, words: list[str], folder: str) -> Answer:
        spec = Spec(folder=folder, queue="default", name="", submitted=time.time(), more={})
        spec.cores = 0
        held = False
        given, rest = split(words)
        for name, value in given:
            if name == "h":
                held = True
            else:
                self._take(spec, name, value)
        if not rest:
            raise Refusal(1, "No executable specified\n\n")  # unproven
        if spec.walltime is None or not spec.cores:
            lacking = ",".join([*(["time"] if spec.walltime is None else []), *(["nodecount"] if not spec.cores else [])])
            raise Refusal(1, f"Not all required arguments provided: {lacking} needed\n")  # qsub
        path = os.path.join(spec.folder, rest[0])
        missing = Refusal(1, f"command {path} not found, or is not a file\n")  # qsub
        script = read_script(path, missing)
        if not os.access(path, os.X_OK):
            raise Refusal(1, f"Script {path} is not executable\n")  # qsub
        if spec.cores > self.config["slots"]:
            raise Refusal(1, "node count out of realistic range\n")  # client_utils: cb_nodes
        if spec.queue not in self.config["queues"]:
            raise Refusal(1, f"XMLRPC failure <Fault 42: \"queue '{spec.queue}' does not exist\">\n")  # unproven
        spec.words = rest[1:]
        jobs = self.take(spec, script, held=held)
        return Answer(0, joined([f'Job routed to queue "{spec.queue}".', jobs[0].id]))  # arc: a site's filter, then the id

    def _take(self, spec: Spec, name: str, value: str) -> None:
        if name == "t":
            if not re.fullmatch(r"[0-9]+|([0-9]+:){1,2}[0-9]+", value):
                raise Refusal(
                    1, "invalid time specification: time must be of format HH:MM:SS or integer\n"
                )  # client_utils; unproven
            spec.walltime = float(value) * self.config["minute_s"]
        elif name == "n":
            spec.cores = int(value)
        elif name in self.kept:
            setattr(spec, self.kept[name], value)
        elif name == "dependencies":
            for one in value.split(":"):
                if self.store.named(one):
                    spec.after.append(("success", one))  # manual: all must have exited with 0
        elif name in ("o", "e", "debuglog") and not os.path.isdir(os.path.dirname(value)):
            raise Refusal(1, f"directory {value} does not exist\n")  # client_utils: cb_path
        elif name == "mode" and value != "script":
            raise Refusal(1, f"Specifed mode '{value}' not valid, valid modes are\nco\nvn\nscript\n")  # qsub

    # Questions

    def qstat(self, words: list[str]) -> Answer:
        """``qstat -l --header=...``: qstat, and print_vertical of Util."""
        header = next((word.partition("=")[2] for word in words if word.startswith("--header=")), "JobID:User:State")
        rest = [word for word in words if word != "-l" and not word.startswith("--header=")]
        if rest[:1] == ["-u"]:
            found = [job for job in self.store.jobs.values() if not self.gone(job)] if rest[1] == user() else []
            ids: list[str] = []
        else:
            ids = rest
            found = [job for text in ids for job in self.jobs_of(text)]
            if ids and not found:
                return Answer(1)  # qstat: sys.exit(1), without a word; harvester
        names = header.split(":")
        width = max(len(name) for name in names) + 1
        most = max((len(job.id) for job in found), default=0)
        lines: list[str] = []
        for job in found:
            values = self.fields(job, most)
            texts = [values.get(name.lower(), "-") for name in names]
            lines.append(f"{names[0]}: {texts[0]}")
            lines += [f"    {name:<{width}}: {text}" for name, text in zip(names[1:], texts[1:], strict=True)]
            lines.append("")
        return Answer(0, joined(lines))

    def fields(self, job: Job, width: int) -> dict[str, str]:
        """By their names in lower case, as qstat looks them up; the id is as wide as the longest."""
        return {
            "jobid": job.id.rjust(width),
            "jobname": job.spec.name,
            "user": user(),
            "state": STATES[job.state],
            "outputdir": job.spec.folder,
            "location": "node1" if job.state in ACTIVE else "None",
            "queue": job.spec.queue,
        }

    # Control

    def control(self, program: str, words: list[str]) -> Answer:
        found = [(text, self.jobs_of(text)) for text in words]
        alive = [jobs[0] for _, jobs in found if jobs and not jobs[0].over]
        if program == "qdel":
            if not alive:
                return Answer(0)  # qdel: nothing is printed
            self.act("cancel", alive)
            rows = [("JobID", "User"), *((job.id, user()) for job in alive)]
            widths = [max(len(row[at]) for row in rows) for at in (0, 1)]
            lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + "  " for row in rows]
            lines.insert(1, "=" * (sum(widths) + 4))
            return Answer(0, joined(["      Deleted Jobs", *lines]))  # qdel; print_tabular of Util
        return self.hold_or_release(program, found)

    def hold_or_release(self, program: str, found: list[tuple[str, list[Job]]]) -> Answer:
        """client_utils: hold_release_command."""
        hold = program == "qhold"
        done: list[str] = []
        failed: list[str] = []
        for text, jobs in found:
            if not jobs:
                failed.append(f"job {text} not found")
            elif jobs[0].state in ACTIVE:
                if hold:
                    done.append(f"{text} (pending)")
                else:
                    failed.append(f"job {text} is already active and does not have a pending 'user hold'")
            elif hold and jobs[0].hold_user:
                failed.append(f"job {text} already in state 'user hold'")
            elif not hold and not jobs[0].hold_user:
                failed.append(f"job {text} does not have a 'user hold'")
            else:
                self.act("hold" if hold else "release", [job for job in jobs if job.state in WAITING])
                done.append(text)
        lines: list[str] = []
        if failed:
            lines.append(f"   Failed to {'place' if hold else 'remove'} user hold on jobs: ")
            lines += [f"      {line}" for line in failed]
        if done:
            lines.append("Placed user hold on jobs: " if hold else "   Removed user hold on jobs: ")
            lines += [f"      {line}" for line in done]
        return Answer(0, joined(lines))


STYLE = Cobalt


def split(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options by their letter, where they have one, and the words from the script on: none of these is an option."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words) and words[at].startswith("-"):
        word, at = words[at], at + 1
        try:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                letter = LETTERS.get(name, name)
                if letter not in FLAGS and not equals:
                    value, at = words[at], at + 1
                if letter not in FLAGS and letter not in TAKE and letter not in LONG:
                    raise KeyError(name)
                found.append((letter, value))
            else:
                letters, _ = options([word], TAKE, FLAGS) if word[-1] not in TAKE or len(word) > 2 else ([(word[1], words[at])], [])
                at += len(word) == 2 and word[1] in TAKE
                found += letters
        except (KeyError, IndexError) as error:
            raise Refusal(2, f"Usage: qsub.py [options]\n\nqsub.py: error: no such option: {word}\n") from error  # unproven
    return found, words[at:]
