"""PBS's commands: qsub, qstat, qdel, qhold, qrls, qsig, qselect.

Where a text was seen stands beside it: the name of a recording of OpenPBS 23.06 (tests/data/pbs), or ``unproven``.
"""

from __future__ import annotations

import calendar
import os
import re
import shlex
import time
from typing import Any, ClassVar

from .common import ACTIVE, WAITING, Answer, Job, Lookalike, Refusal, Spec, joined, options, read_script, user

__all__ = ["STYLE", "Pbs"]

VERSION = "pbs_version = 23.06.06"  # version
USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
\t[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
"""  # err-bad-array, the first lines of it
TAKE, FLAGS = "aAcCeJjklmMNopPqrRSuvW", "fhIVXz"
WHEN = {"afterok": "success", "afternotok": "failure", "afterany": "any"}
STATUS = {  # error numbers modulo 256
    "Unknown Job Id": 153,  # err-qdel-unknown
    "Job has finished": 35,  # err-qdel-finished
    "Unknown queue": 170,  # err-unknown-queue
    "Invalid request": 156,  # facts: hold of one task; its text is unproven
    "Request invalid for state of job": 168,  # unproven
}


class Pbs(Lookalike):
    """A PBS server with job history, unless its settings say otherwise."""

    settings: ClassVar[dict[str, Any]] = {**Lookalike.settings, "queues": ["workq", "short"]}
    verbs: ClassVar[dict[str, str]] = {
        "qsub": "submit", "qdel": "control", "qhold": "control", "qrls": "control", "qsig": "control", "qselect": "select"
    }  # fmt: skip

    def _verb(self, name: str, words: list[str]) -> str:
        verb = super()._verb(name, words)
        return ("account" if "-x" in words else "limits" if "-B" in words else "queue") if name == "qstat" else verb

    def away(self, program: str) -> Answer:
        if program == "qdel":  # err-down-qdel
            return Answer(162, b"", f"Connection refused\nCouldn't connect to cluster: {self.config['host']}\n".encode())
        code = 255 if program == "qstat" else 162  # err-down-qstat, err-down-qsub, err-down-qhold
        return Answer(
            code, b"", f"Connection refused\n{program}: cannot connect to server {self.config['host']} (errno=15010)\n".encode()
        )

    def variables(self, job: Job) -> dict[str, str]:
        found = {
            "PBS_JOBID": self.shown(job),
            "PBS_JOBNAME": job.spec.name,
            "PBS_QUEUE": job.spec.queue,
            "PBS_O_WORKDIR": job.spec.more["workdir"],
            "PBS_ENVIRONMENT": "PBS_BATCH",
            **job.spec.more["given"],
        }
        if job.index is not None:  # facts: section 5
            found |= {"PBS_ARRAY_INDEX": str(job.index), "PBS_ARRAY_ID": self.parent(job.spec.number)}
        return found

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["--version"]:
            return Answer(0, joined([VERSION]))
        if program == "qsub":
            return self.qsub(words, folder)
        if program == "qstat":
            return self.qstat(words)
        if program == "qselect":
            return self.qselect(words)
        return self.control(program, words)

    # Ids

    def shown(self, job: Job) -> str:
        host = self.config["host"]
        return f"{job.spec.number}.{host}" if job.index is None else f"{job.spec.number}[{job.index}].{host}"

    def parent(self, number: int) -> str:
        return f"{number}[].{self.config['host']}"

    def jobs_of(self, text: str) -> tuple[str, list[Job]]:
        """An id as it is printed, and what it means: one job, all of an array, or none."""
        match = re.fullmatch(r"([0-9]+)(\[([0-9]*)\])?(\..*)?", text)
        if match is None or (match[4] and match[4] != f".{self.config['host']}"):
            return text, []
        shown = text if match[4] else f"{text}.{self.config['host']}"
        number, brackets, index = match[1], match[2], match[3]
        found = self.store.named(number if not index else f"{number}.{index}")
        if bool(brackets) != (bool(found) and found[0].index is not None):
            return shown, []  # array-nobracket: an array is not known by its number alone
        return shown, found

    # Submission

    def qsub(self, words: list[str], folder: str) -> Answer:
        try:
            given, rest = options(words, TAKE, FLAGS)
        except KeyError as error:
            raise Refusal(2, f"qsub: invalid option -- {error}\n{USAGE}") from error  # err-bad-option
        more = {"workdir": folder, "given": {}, "select": "", "arguments": shlex.join(words), "depend": "", "never": False}
        spec = Spec(folder=os.path.expanduser("~"), queue="workq", name="STDIN", submitted=time.time(), more=more)
        held = False
        for letter, value in given:
            if letter == "h":
                held = True
            else:
                self._take_option(spec, letter, value)
        if not rest:
            raise Refusal(2, f"qsub: script file:: No such file or directory\n{USAGE}")
        script = read_script(os.path.join(folder, rest[0]), Refusal(1, "qsub: script file:: No such file or directory\n"))
        # err-script-directory, err-no-such-script
        if spec.queue not in self.config["queues"]:
            raise Refusal(STATUS["Unknown queue"], "qsub: Unknown queue\n")
        if spec.indices is not None and len(spec.indices) > self.config["max_array"]:
            raise Refusal(3, "qsub: Array job exceeds server or queue size limit\n")  # err-array-too-big
        jobs = self.take(spec, script, held=held)
        if spec.more["never"]:  # depend-unknown-after: accepted, and ended at once
            for job in jobs:
                job.state, job.ended = "DEPENDENCY", spec.submitted
                self.store.save(job, spec.submitted)
        shown = self.shown(jobs[0]) if spec.indices is None else self.parent(spec.number)
        return Answer(0, joined([shown]))  # qsub-ok-script, qsub-array

    def _take_option(self, spec: Spec, letter: str, value: str) -> None:
        bad = Refusal(2, f"qsub: illegal -{letter} value\n{USAGE}")  # err-bad-array, err-bad-name
        try:
            if letter == "N":
                if len(value) > 230:
                    raise Refusal(2, "qsub: Job name is too long \n")  # err-qsub-name-long
                if not re.fullmatch(r"[A-Za-z0-9_.+-]+", value):
                    raise bad
                spec.name = value
            elif letter == "J":
                match = re.fullmatch(r"([0-9]+)-([0-9]+)(?::([0-9]+))?(?:%([0-9]+))?", value)
                if match is None or int(match[1]) >= int(match[2]):
                    raise bad  # err-bad-array, err-array-single
                spec.indices = list(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)))
                spec.cap = int(match[4]) if match[4] else None
            elif letter == "a":
                moment = time.strptime(value, "%Y%m%d%H%M.%S")
                spec.begin = float(calendar.timegm(moment))
            elif letter == "l":
                self._resource(spec, value)
            elif letter in self.kept:
                setattr(spec, self.kept[letter], value)
            elif letter == "p":
                spec.priority = int(value)
            elif letter == "r":
                spec.rerun = value == "y"
            elif letter == "v":
                spec.more["given"].update(pair.split("=", 1) for pair in value.split(","))
            elif letter == "W" and value.startswith("depend="):
                self._depend(spec, value.removeprefix("depend="))
        except ValueError as error:
            raise bad from error

    def _resource(self, spec: Spec, value: str) -> None:
        name, _, text = value.partition("=")
        if name == "walltime":
            if not re.fullmatch(r"[0-9]+|([0-9]+:){1,3}[0-9]+", text):
                raise Refusal(166, "qsub: Illegal attribute or resource value Resource_List.walltime\n")  # err-bad-walltime
            total = 0
            for part in text.split(":"):
                total = total * 60 + int(part)
            spec.walltime = float(total)
        elif name == "select":
            count, *pairs = text.split(":")
            chunk = dict(pair.split("=", 1) for pair in pairs)
            spec.more["select"] = text
            spec.cores = int(count) * int(chunk.get("ncpus", 1))
            spec.gpus = int(count) * int(chunk.get("ngpus", 0))
        elif name not in ("place", "mem", "ncpus", "cput"):
            raise Refusal(187, f"qsub: Unknown resource Resource_List.{name}\n")  # err-bad-resource

    def _depend(self, spec: Spec, value: str) -> None:
        spec.more["depend"] = value
        for part in value.split(","):
            word, *ids = part.split(":")
            if word not in WHEN:
                raise Refusal(2, f"qsub: illegal -W value\n{USAGE}")  # err-bad-depend-syntax
            for one in ids:
                _, jobs = self.jobs_of(one)
                spec.more["never"] = spec.more["never"] or not jobs
                if jobs:
                    number = jobs[0].spec.number
                    spec.after.append((WHEN[word], str(number) if "[]" in one else jobs[0].id))

    # Questions

    def qselect(self, words: list[str]) -> Answer:
        given, _ = options(words, "uAsq", "xt")
        if ("x", "") in given and not self.config["history"]:
            raise Refusal(0, "qselect: PBS is not configured to maintain job history \n")  # unproven for qselect
        found: dict[str, None] = {}
        for job in self.store.jobs.values():
            if ("x", "") in given or not self.over(job):
                found[self.shown(job) if job.index is None else self.parent(job.spec.number)] = None
        return Answer(0, joined(list(found)))  # qselect-user

    def over(self, job: Job) -> bool:
        """Whether it has left the queue: a task does with its whole array."""
        if job.index is None:
            return job.over
        return all(one.over for one in self.store.arrays[str(job.spec.number)])

    def qstat(self, words: list[str]) -> Answer:
        if "-B" in words:  # qstat-B
            lines = [f"Server: {self.config['host']}", "    server_state = Active"]
            return Answer(0, joined([*lines, f"    max_array_size = {self.config['max_array']}", f"    {VERSION}", ""]))
        given, asked = options(words, "FD", "xtfw")
        ids, flags = asked, {letter for letter, _ in given}
        out: list[str] = []
        err: list[str] = []
        code = 0
        if not ids:
            listed = [job for job in self.store.jobs.values() if "x" in flags or not self.over(job)]
            ids = list(dict.fromkeys(self.shown(job) if job.index is None else self.parent(job.spec.number) for job in listed))
        for text in ids:
            shown, jobs = self.jobs_of(text)
            if "." in text and not text.endswith(f".{self.config['host']}"):  # err-other-server
                err.append(f"qstat: illegally formed job identifier: {text}")
                code = 1
            elif "x" in flags and not self.config["history"]:  # nohistory-qstat-x-finished: exit 0
                err.append(f"qstat: PBS is not configured to maintain job history {shown}")
            elif not jobs or (self.over(jobs[0]) and not self.config["history"]):  # err-qstat-unknown
                err.append(f"qstat: Unknown Job Id {shown}")
                code = STATUS["Unknown Job Id"]
            elif self.over(jobs[0]) and "x" not in flags:  # err-qstat-finished-noX
                err.append(f"qstat: {shown} Job has finished, use -x or -H to obtain historical job information")
                code = STATUS["Job has finished"]
            else:
                if "[]" in shown:
                    out.append(self.array_line(shown, jobs))
                if "[]" not in shown or "t" in flags:
                    out += [self.line(job) for job in jobs]
        return Answer(code, joined(out), joined(err))

    def line(self, job: Job) -> str:
        """One job of ``qstat -f -F dsv``: multi-id-dsv; the order of fields is as there."""
        spec, over = job.spec, self.over(job)
        letter, substate = self.state(job)
        ran = job.runs > 0
        unbegun_task = job.index is not None and not ran
        fields: dict[str, Any] = {"Job_Name": spec.name, "Job_Owner": f"{user()}@{self.config['host']}"}
        if ran:
            wall = int((job.ended or time.time()) - (job.began or 0.0))
            fields |= {
                "resources_used.cpupercent": 0,
                "resources_used.cput": clock(int(job.user_s + job.system_s)),
                "resources_used.mem": f"{job.rss_kb}kb",
                "resources_used.ncpus": spec.cores,
                "resources_used.vmem": "0kb",
                "resources_used.walltime": clock(wall),
            }
        fields |= {"job_state": letter, "queue": spec.queue, "server": self.config["host"]}
        if spec.account:
            fields["Account_Name"] = spec.account
        fields |= {"Checkpoint": "u", "ctime": date(spec.submitted)}
        if spec.more["depend"] and not ran:
            fields["depend"] = spec.more["depend"]
        if ran:
            fields |= {"exec_host": f"{self.config['host']}/0", "exec_vnode": f"({self.config['host']}:ncpus={spec.cores})"}
        fields |= {"Hold_Types": holds(job), "Join_Path": "oe", "mtime": date(job.history[-1][0]), "Output_Path": "/dev/null"}
        fields |= {"Priority": spec.priority, "qtime": date(spec.submitted), "Rerunable": str(spec.rerun)}
        if spec.more["select"]:
            fields["Resource_List.select"] = spec.more["select"]
        if spec.walltime is not None:
            fields["Resource_List.walltime"] = clock(int(spec.walltime))
        if ran and job.began is not None:
            fields["stime"] = date(job.began)
        elif unbegun_task and (began := self.array_began(job)):  # array-subjob-queued: its array's
            fields["stime"] = date(began)
        if job.ended is not None and ran:
            fields["obittime"] = date(job.ended)
        listed = {"PBS_O_HOME": spec.folder, "PBS_O_WORKDIR": spec.more["workdir"], "PBS_O_SYSTEM": "Linux", **spec.more["given"]}
        fields |= {"substate": substate, "Variable_List": ",".join(f"{name}={value}" for name, value in listed.items())}
        fields |= self.comment(job)
        if ran:
            fields["run_count"] = job.runs
        status = self.status(job)
        if status is not None:
            fields["Exit_status"] = status
        fields["Submit_arguments"] = spec.more["arguments"]
        if over and job.ended is not None:
            fields["history_timestamp"] = int(job.ended)
        fields |= {"project": "_pbs_project_default", "Submit_Host": self.config["host"]}
        return dsv(self.shown(job), fields)

    def state(self, job: Job) -> tuple[str, int]:
        """Its letter and substate."""
        if not job.over:
            return {
                "PENDING": ("Q", 10),  # queued
                "WAITING": ("W", 30) if job.reason == "BeginTime" else ("H", 22),  # qstat-f-all; depend-held
                "HELD_USER": ("H", 20),
                "HELD_SYSTEM": ("H", 20),
                "HELD_BOTH": ("H", 20),
                "RUNNING": ("R", 42),  # running
                "ENDING": ("R", 42),  # qstat-exiting: qdel takes its time
                "SUSPENDED": ("S", 43),  # suspended
            }[job.state]
        letter = "F" if self.over(job) else "X"  # array-parent-t: while the array lives
        if job.index is not None and job.runs == 0:
            return letter, 70 if letter == "X" else 91  # array-deleted-t
        if job.state == "CANCELLED":
            return letter, 91  # finished-qdel-running, finished-qdel-queued
        return letter, 92 if job.state in ("COMPLETED", "DEPENDENCY") else 93  # finished-success, depend-after; finished-exit3

    def status(self, job: Job) -> int | None:
        """Exit_status, of what is over."""
        if not job.over:
            return None
        if job.runs == 0:  # array-deleted-t; finished-qdel-queued, depend-after
            return 1 if job.index is not None and not self.over(job) else None
        if job.state == "CANCELLED":
            return 271  # finished-qdel-running
        if job.state == "TIMEOUT":
            return -29  # finished-walltime
        if job.signal is not None:
            return 128 + job.signal  # finished-selfkill: what the login shell says of its child
        return job.code

    def comment(self, job: Job) -> dict[str, str]:
        at = time.strftime("%a %b %d at %H:%M", time.gmtime(job.began or job.spec.submitted))
        ran = f"Job run at {at} on ({self.config['host']}:ncpus={job.spec.cores})"
        if not job.over:
            if job.state in ACTIVE:
                return {"comment": ran}  # running
            if self.impossible(job.spec):  # qstat-f-all
                resource = f"ncpus (R: {job.spec.cores} A: {self.config['slots']} T: {self.config['slots']})"
                return {"comment": f"Can Never Run: Insufficient amount of resource: {resource}"}
            return {"comment": "Not Running: Insufficient amount of resource: ncpus"} if job.reason == "Resources" else {}
        if job.runs == 0:
            return {"comment": "Subjob finished"} if job.index is not None and not self.over(job) else {}  # array-deleted-t
        end = {
            "COMPLETED": "finished",
            "CANCELLED": f"terminated by {user()}@{self.config['host']}",
            "TIMEOUT": "exceeded resource walltime",
        }.get(job.state, "failed")
        return {"comment": f"{ran} and {end}"}

    def array_began(self, job: Job) -> float | None:
        began = [one.began for one in self.store.arrays[str(job.spec.number)] if one.began is not None]
        return min(began) if began else None

    def array_line(self, shown: str, jobs: list[Job]) -> str:
        """The array itself: array-parent, array-finished-parent."""
        first = jobs[0]
        begun = any(job.runs for job in jobs)
        left = [job.index for job in jobs if job.state in WAITING and job.index is not None]
        letter, substate = ("B", 70) if begun else self.state(next((job for job in jobs if not job.over), first))
        if self.over(first):
            letter, substate = "F", 92
        fields = {
            "Job_Name": first.spec.name,
            "job_state": letter,
            "queue": first.spec.queue,
            "ctime": date(first.spec.submitted),
            "Hold_Types": next((holds(job) for job in jobs if job.state in WAITING), "n"),
            "substate": substate,
            "Variable_List": f"PBS_O_HOME={first.spec.folder},PBS_O_WORKDIR={first.spec.more['workdir']}",
            "array": "True",
            "array_indices_submitted": f"{first.spec.indices[0]}-{first.spec.indices[-1]}" if first.spec.indices else "-",
            "array_indices_remaining": ranges(left) or "-",
            "project": "_pbs_project_default",
        }
        return dsv(shown, fields)

    # Control

    def control(self, program: str, words: list[str]) -> Answer:
        given, ids = options(words, "shW", "")
        said: list[str] = []
        code = 0
        for text in ids:
            shown, jobs = self.jobs_of(text)
            error = self._act_on(program, dict(given), shown, jobs)
            if error is not None:
                code = STATUS[error]
                # err-qhold-finished, err-qsig-finished: these do not say which
                named = error != "Job has finished" or program == "qdel"
                said.append(f"{program}: {error} {shown}" if named else f"{program}: {error}")
        self.machine.schedule(time.time())
        return Answer(code, b"", joined(said))

    def _act_on(self, program: str, given: dict[str, str], shown: str, jobs: list[Job]) -> str | None:
        if not jobs:
            return "Unknown Job Id"
        if all(job.over for job in jobs):
            return "Job has finished"
        alive = [job for job in jobs if not job.over]
        if program == "qdel":
            self.act("cancel", alive)
        elif program in ("qhold", "qrls"):
            if "[" in shown and "[]" not in shown:
                return "Invalid request"
            # Of a running job: exit 0, and nothing comes of it (qhold-running); of one that is not held, too (qrls-not-held).
            self.act("hold" if program == "qhold" else "release", [job for job in alive if job.state in WAITING])
        elif program == "qsig":
            if any(job.state not in ACTIVE for job in alive):
                return "Request invalid for state of job"
            name = given.get("s", "TERM").removeprefix("SIG")
            self.act("signal", alive, {"STOP": 19, "CONT": 18, "TERM": 15, "KILL": 9}[name])
        return None


STYLE = Pbs


# How it prints ------------------------------------------------------------------------------------------------------


def dsv(shown: str, fields: dict[str, Any]) -> str:
    """One job in one line."""
    return "|".join([f"Job Id: {shown}", *(f"{name}={value}".replace("|", "\\|") for name, value in fields.items())])


def date(moment: float) -> str:
    """As ctime() prints it, with TZ=UTC0."""
    return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(moment))


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def holds(job: Job) -> str:
    """Hold_Types."""
    if job.state == "WAITING" and job.reason == "Dependency":
        return "s"  # depend-after: the job that never ran
    return ("u" if job.hold_user else "") + ("s" if job.hold_system else "") or "n"


def ranges(numbers: list[int]) -> str:
    """array_indices_remaining: array-running-partial; with gaps unproven."""
    parts: list[str] = []
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        parts.append(f"{numbers[at]}-{numbers[end]}" if end > at else str(numbers[at]))
        at = end + 1
    return ",".join(parts)
