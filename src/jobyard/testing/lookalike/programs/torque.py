"""Torque's commands: qsub, qstat, qdel, qhold, qrls, qsig, qselect.

Texts are from Torque's manual pages and source (github.com/adaptivecomputing/torque, src/cmds), which stands beside each as
``manual`` or the file's name, and from outputs that users published: ``bpipe`` (TorqueStatusMonitorTest of
github.com/ssadedin/bpipe), ``uic`` (the guide to the cluster Extreme of the University of Illinois Chicago), ``cbio``
(github.com/cBio/cbio-cluster, issues 28 and 178), ``toil`` (github.com/DataBiosphere/toil, issue 3698), ``canu``
(github.com/marbl/canu, issue 2013). ``unproven``: none of these shows it.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from .common import ACTIVE, WAITING, Answer, Job, Refusal, Spec, joined, options, read_script, user
from .pbs import Pbs, clock, holds

__all__ = ["STYLE", "Torque"]

TAKE, FLAGS = "aAbcCdDejJklKLmMNopPqrStTuvwW", "fhIVxXzn"
WHEN = {"afterok": "success", "afternotok": "failure", "afterany": "any"}
WHEN |= {f"{word}array": when for word, when in WHEN.items()}  # manual: qsub -W depend
FINISHED = "Request invalid for state of job MSG=invalid state for job - COMPLETE"  # uic
STATUS = {  # error numbers modulo 256 (src/include/pbs_error_db.h); texts as get_err_msg of qstat.c prints them
    "Unknown Job Id Error": 153,
    "Request invalid for state of job": 168,
    "Unauthorized Request": 159,
}


class Torque(Pbs):
    """A Torque server. ``history``: false for ``keep_completed`` 0, else it is ``linger_s``."""

    settings: ClassVar[dict[str, Any]] = {**Pbs.settings, "queues": ["batch", "short"]}

    def _verb(self, name: str, words: list[str]) -> str:
        verb = super()._verb(name, words)
        return "queue" if verb == "account" else verb

    def away(self, program: str) -> Answer:
        """The server (cbio), or to qsub trqauthd, by which every command asks (toil). The exit codes are unproven."""
        host = self.config["host"]
        if program == "qsub":
            why = "(null) (errno=15137) could not connect to trqauthd"
            return Answer(33, b"", joined([*["socket_connect_unix failed: 15137"] * 3, f"qsub: cannot connect to server {why}"]))
        lines = [f"Unable to communicate with {host}(127.0.0.1)", f"Cannot connect to specified server host '{host}'."]
        lines.append(f"{program}: cannot connect to server {host} (errno=111) Connection refused")
        return Answer(255 if program == "qstat" else 111, b"", joined(lines))

    def variables(self, job: Job) -> dict[str, str]:
        found = {
            "PBS_JOBID": self.shown(job),
            "PBS_JOBNAME": job.spec.name,
            "PBS_QUEUE": job.spec.queue,
            "PBS_O_WORKDIR": job.spec.more["workdir"],
            "PBS_ENVIRONMENT": "PBS_BATCH",
        }
        return found if job.index is None else {**found, "PBS_ARRAYID": str(job.index)}  # manual: qsub -t

    def answer(self, program: str, words: list[str], stdin: bytes, folder: str) -> Answer:
        if words == ["--version"]:
            return Answer(0, b"", b"Version: 6.1.2\nCommit: unproven\n")  # on standard error
        return super().answer(program, words, stdin, folder)

    # Submission

    def qsub(self, words: list[str], folder: str) -> Answer:
        try:
            given, rest = options(words, TAKE, FLAGS)
        except KeyError as error:
            raise Refusal(2, f"qsub: invalid option -- {error}\nusage: qsub [-a date_time]\n") from error
        more = {"workdir": folder, "depend": "", "arguments": shlex.join(words), "given": {}, "never": False, "select": ""}
        spec = Spec(folder=os.path.expanduser("~"), queue="batch", name="STDIN", submitted=time.time(), more=more)
        held = False
        for letter, value in given:
            if letter == "h":
                held = True
            elif letter == "t":
                self._tasks(spec, value)
            elif letter == "l":
                for part in value.split(","):
                    self._asked(spec, part)
            elif letter == "N" and (len(value) > 15 or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]*", value)):
                raise Refusal(1, "qsub: illegal -N value\nusage: qsub [-a date_time]\n")  # manual: 15 characters, a letter first
            else:
                self._take_option(spec, letter, value)
        script = read_script(os.path.join(folder, rest[0]), Refusal(1, "qsub: script file cannot be loaded\n"))
        if spec.queue not in self.config["queues"]:
            raise Refusal(170, "qsub: submit error (Unknown queue MSG=requested queue not found)\n")  # qsub_functions.c
        if spec.indices is not None and len(spec.indices) > self.config["max_array"]:
            # torque's own tests show the words of the slot limit; those of the size are unproven
            raise Refusal(1, "qsub: submit error (Bad Job Array Request MSG=number of array jobs exceeds limit)\n")
        jobs = self.take(spec, script, held=held)
        return Answer(0, joined([self.shown(jobs[0]) if spec.indices is None else self.parent(spec.number)]))

    def _tasks(self, spec: Spec, value: str) -> None:
        text, _, cap = value.partition("%")
        found: list[int] = []
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last if dash else first) + 1)
        spec.indices, spec.cap = found, int(cap) if cap else None

    def _asked(self, spec: Spec, part: str) -> None:
        name, _, value = part.partition("=")
        if name == "nodes":
            count, *pairs = value.split(":")
            asked = dict(pair.split("=", 1) for pair in pairs)
            spec.cores, spec.gpus = int(count) * int(asked.get("ppn", 1)), int(count) * int(asked.get("gpus", 0))
        elif name == "walltime":
            spec.walltime = float(value)
        elif name != "mem":
            raise Refusal(187, f"qsub: submit error (Unknown resource type  Resource_List.{name})\n")  # pbs_error_db.h

    def _depend(self, spec: Spec, value: str) -> None:
        for part in value.split(","):
            word, *ids = part.split(":")
            for one in ids:
                _, jobs = self.jobs_of(one)
                if word not in WHEN or not jobs:
                    raise Refusal(208, f"qsub: submit error (Invalid Job Dependency MSG=cannot queue job {one})\n")  # canu
                spec.after.append((WHEN[word], str(jobs[0].spec.number) if "[]" in one else jobs[0].id))
        spec.more["depend"] = value

    # Questions

    def gone(self, job: Job) -> bool:
        """Forgotten: state C lasts for keep_completed seconds (manual: qmgr, keep_completed)."""
        return self.forgotten(job)

    def over(self, job: Job) -> bool:
        return self.gone(job)

    def qstat(self, words: list[str]) -> Answer:
        if "-B" in words:
            lines = [f"Server: {self.config['host']}", "    server_state = Active"]
            return Answer(0, joined([*lines, f"    max_job_array_size = {self.config['max_array']}", ""]))  # manual: qmgr
        _, ids = options(words, "W", "xtf1")
        out: list[str] = []
        err: list[str] = []
        code = 0
        for text in ids or [""]:
            shown, jobs = self.jobs_of(text) if text else ("", list(self.store.jobs.values()))
            known = [job for job in jobs if not self.gone(job)]
            if text and not known:
                err.append(f"qstat: Unknown Job Id Error {shown}")  # get_err_msg of qstat.c
                code = STATUS["Unknown Job Id Error"]
            else:  # each operand is a document of its own (run_job_mode of qstat.c)
                out.append("<Data>" + "".join(self.element(job) for job in known) + "</Data>")
        return Answer(code, joined(out), joined(err))

    def element(self, job: Job) -> str:
        """One job: bpipe, and create_full_job_xml of qstat.c."""
        spec, ran = job.spec, job.runs > 0
        fields: dict[str, Any] = {"Job_Id": self.shown(job), "Job_Name": spec.name, "Job_Owner": f"{user()}@{self.config['host']}"}
        if ran:
            wall = int((job.ended or time.time()) - (job.began or 0.0))
            used = {"cput": clock(int(job.user_s + job.system_s)), "mem": f"{job.rss_kb}kb", "vmem": "0kb", "walltime": clock(wall)}
            fields["resources_used"] = used
        fields |= {"job_state": self.letter(job), "queue": spec.queue, "server": self.config["host"]}
        if spec.account:
            fields["Account_Name"] = spec.account
        fields |= {"Checkpoint": "u", "ctime": int(spec.submitted)}
        if spec.more["depend"] and not ran:
            fields["depend"] = spec.more["depend"]
        if ran:
            fields["exec_host"] = f"{self.config['host']}/0"
        fields |= {"Hold_Types": holds(job), "Join_Path": "oe", "mtime": int(job.history[-1][0]), "Output_Path": "/dev/null"}
        fields |= {"Priority": spec.priority, "qtime": int(spec.submitted), "Rerunable": str(spec.rerun)}
        if spec.walltime is not None:
            fields["Resource_List"] = {"walltime": clock(int(spec.walltime))}
        if ran:
            fields["session_id"] = job.pid or 1
        listed = {"PBS_O_QUEUE": spec.queue, "PBS_O_HOME": spec.folder, "PBS_O_WORKDIR": spec.more["workdir"]}
        fields["Variable_List"] = ",".join(f"{name}={value}" for name, value in listed.items())
        fields |= {"euser": user(), "etime": int(spec.submitted)}
        if job.over and ran:
            fields["exit_status"] = self.status(job)
        fields["submit_args"] = spec.more["arguments"]
        if ran and job.began is not None:
            fields |= {"start_time": int(job.began), "start_count": job.runs}
        if job.over and job.ended is not None:
            fields["comp_time"] = int(job.ended)
        fields["init_work_dir"] = spec.more["workdir"]
        return f"<Job>{markup(fields)}</Job>"

    def letter(self, job: Job) -> str:
        """manual: qstat, the states."""
        if job.over:
            return "C"
        waiting = "W" if job.reason == "BeginTime" else "H"
        return {"PENDING": "Q", "WAITING": waiting, "SUSPENDED": "S", "RUNNING": "R", "ENDING": "E"}.get(job.state, "H")

    def status(self, job: Job) -> int | None:
        """exit_status: manual (administrator guide, Job exit status); a cancelled job's 271 is 256 and TERM."""
        if job.state == "CANCELLED":
            return 271
        if job.state == "TIMEOUT":
            return -11
        return 128 + job.signal if job.signal is not None else job.code

    # Control

    def control(self, program: str, words: list[str]) -> Answer:
        given, ids = options(words, "shtWm", "p")
        said: list[str] = []
        code = 0
        for text in ids:
            shown, jobs = self.jobs_of(text)
            error = self._act_on(program, dict(given), shown, [job for job in jobs if not self.gone(job)])
            if error is not None:
                code = STATUS[error.partition(" MSG=")[0]]
                said.append(f"{program}: {error} {shown}")  # prt_job_err
        self.machine.schedule(time.time())
        return Answer(code, b"", joined(said))

    def _act_on(self, program: str, given: dict[str, str], shown: str, jobs: list[Job]) -> str | None:
        if not jobs:
            return "Unknown Job Id Error"
        alive = [job for job in jobs if not job.over]
        if not alive:
            return FINISHED
        if program == "qdel":
            self.act("cancel", alive)
        elif program in ("qhold", "qrls"):
            self.act("hold" if program == "qhold" else "release", [job for job in alive if job.state in WAITING])
        elif any(job.state not in ACTIVE for job in alive):
            return "Request invalid for state of job MSG=invalid state for job - QUEUED"  # uic, of another state
        else:
            number = {"SIGSTOP": 19, "SIGCONT": 18, "SIGTERM": 15, "SIGKILL": 9}[given.get("s", "SIGTERM")]
            self.act("signal", alive, number)
        return None


STYLE = Torque


def markup(fields: dict[str, Any]) -> str:
    """Elements, nested where the value is a dictionary."""
    return "".join(
        f"<{name}>{markup(value) if isinstance(value, dict) else escape(str(value))}</{name}>" for name, value in fields.items()
    )
