"""The program around each job on its node: claims it, runs it, and reports how it began and ended.

Started as ``python3 -I -S run.py FOLDER [INDEX]``. Standard library only, Python 3.6 syntax. What every job needs is here
and in ``process.py``; ``launch.py`` and ``staging.py`` are loaded only for jobs that have launchers, scripts or stages.
The folder's format is set out in docs/architecture.md, "The job's folder".
"""

import posix
import sys
from time import sleep, time

from .process import (
    FAULTS,
    Failed,
    decode,
    dump,
    encode,
    home_directory,
    load,
    note_signals,
    noted,
    own_environment,
    publish,
    read_file,
    read_line,
    signal,
    start,
    told_to_end,
    wait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .process import Environment

__all__ = ["main"]

FORMAT = 1
PAUSE_S = 0.05  # a scheduler signals process by process: ours may come up to 7 ms after the command's

# Variables that belong to the node's scheduler: never the client's, whose own process may be another scheduler's job.
SCHEDULER_VARIABLES = (
    *(b"SLURM_", b"SLURMD_", b"SBATCH_", b"SRUN_", b"PBS_", b"SGE_", b"LSB_", b"LSF_", b"LS_", b"OAR_", b"FLUX_", b"COBALT_"),
    *(b"NQSV_", b"NQSII_"),
    *(b"HQ_", b"JOBYARD_HYPERQUEUE_"),
    *(b"_CONDOR_", b"CONDOR_", b"PMI_", b"PMIX_", b"PALS_", b"ALPS_"),
)
DEVICE_VARIABLES = (
    *(b"CUDA_VISIBLE_DEVICES", b"NVIDIA_VISIBLE_DEVICES", b"GPU_DEVICE_ORDINAL", b"ROCR_VISIBLE_DEVICES", b"HIP_VISIBLE_DEVICES"),
    b"ZE_AFFINITY_MASK",
)
NODE_VARIABLES = (
    *(b"TMPDIR", b"TMP", b"JOB_ID", b"JOB_NAME", b"JOB_SCRIPT", b"QUEUE", b"NSLOTS", b"NHOSTS", b"NQUEUES", b"PE", b"PE_HOSTFILE"),
    *(b"ARC", b"RESTARTED", b"REQUEST", b"NCPUS", b"HOSTNAME", b"KRB5CCNAME", b"XDG_RUNTIME_DIR"),
    *DEVICE_VARIABLES,
)


# One task of a job ---------------------------------------------------------------------------------------------------


class Task:
    """What this run is to do, and where it reports."""

    def __init__(self, folder: "bytes", argument: "Optional[str]") -> "None":
        self.folder = folder
        self.own = own_environment()
        self.job = job = load(decode(read_file(folder + b"/job.json")))
        if job["format"] != FORMAT:
            raise ValueError("job.json has format %r, this shepherd reads %d" % (job["format"], FORMAT))
        self.traits = traits = job["traits"]
        self.number, self.index = _position(job, traits, self.own, argument)
        self.native_id = _native_id(traits, self.own, self.index is not None or job["kind"] == "like")
        self.array_id = _first(traits.get("array_id_variables", ()), self.own) or self.native_id
        if traits.get("array_id_brackets") and self.array_id and "]" in self.array_id:
            self.array_id = self.array_id.partition("[")[0] + "[]" + self.array_id.partition("]")[2]
        self.description = job["description"]
        self.launch = job["launch"]
        if job["tasks"]:
            override = load(decode(read_line(folder + b"/tasks.jsonl", self.number)))
            if "launch" in override:
                self.launch = override.pop("launch")
            self.description = dict(self.description, **override)
        self.host = posix.uname().nodename
        self.attempt = 1
        self.result = {}  # type: Dict[str, Any]
        self.guard = None  # type: Any

    def identity(self) -> "Dict[str, Any]":
        job = self.job
        return {
            "format": FORMAT,
            "nonce": job["nonce"],
            "token": job["token"],
            "task": self.number,
            "native_id": self.native_id,
            "host": self.host,
            "pid": posix.getpid(),
        }

    def receipt(self, kind: "str", exclusive: "bool" = False, **fields: "Any") -> "bool":
        """Write one receipt; False: exclusive, and it is there already. Raises OSError."""
        value = self.identity()
        value.update(attempt=self.attempt, kind=kind, at=time(), **fields)
        name = "receipt.%d.%d.%s.json" % (self.number, self.attempt, kind)
        return publish(self.folder, name.encode(), dump(value).encode(), exclusive)

    def tell(self, kind: "str") -> "None":
        """Write the receipt of a stage. One that cannot be written stops nothing: the end tells all that matters."""
        try:
            self.receipt(kind)
        except OSError:
            pass

    def claim(self) -> "Optional[Dict[str, Any]]":
        """None: this run goes on, as ``self.attempt``, and its begin receipt is written. Else who holds the claim."""
        name = b"claim.%d" % self.number
        value = self.identity()
        try:
            value["boot_id"] = decode(read_file(b"/proc/sys/kernel/random/boot_id").strip())
        except OSError:
            value["boot_id"] = None
        value["random"] = posix.urandom(8).hex()
        first = publish(self.folder, name, dump(value).encode())
        holder = value if first else load(decode(read_file(self.folder + b"/" + name)))
        highest, begun = (0, 0) if first else self.attempts()
        same = first or (self.native_id is not None and holder.get("native_id") == self.native_id)
        # Without a begin receipt nothing has run yet: the same job, started again, is its first run.
        if same and (not begun or self.description.get("rerunnable")):
            self.attempt = highest + 1
            stages = bool(self.description.get("stage_in"))
            if self.receipt("begin", exclusive=True, stages=stages):
                return None
        return dict(holder)

    def refuse(self, holder: "Dict[str, Any]") -> "None":
        """Report that this run is one too many."""
        self.attempt = max(self.attempts()[0], 1) + 1
        shown = {key: holder.get(key) for key in ("native_id", "host", "pid")}
        while not self.receipt("refused", exclusive=True, holder=shown):
            self.attempt += 1

    def attempts(self) -> "Tuple[int, int]":
        """The highest attempt that any receipt here tells of, and the highest that began."""
        highest = begun = 0
        start = b"receipt.%d." % self.number
        for name in posix.listdir(self.folder):
            if name.startswith(start):
                parts = name.split(b".")
                if len(parts) == 5 and parts[2].isdigit():
                    highest = max(highest, int(parts[2]))
                    if parts[3] == b"begin":
                        begun = max(begun, int(parts[2]))
        return highest, begun

    # What the command gets

    def environment(self) -> "Environment":
        """The command's environment, exactly."""
        description, traits, own = self.description, self.traits, self.own
        inherit = description.get("inherit") or "node"
        captured = self.job.get("environment_base")
        launched = self.launch is not None
        if inherit == "none":
            # What binds a job to its devices is no environment of anybody's.
            found = {key: own[key] for key in own if key in DEVICE_VARIABLES or (launched and _scheduler_owns(key))}
        elif inherit == "client" and captured is not None:
            found = {encode(key): encode(value) for key, value in captured.items()}
            found = {key: value for key, value in found.items() if not key.startswith(SCHEDULER_VARIABLES)}
            for key, value in own.items():
                if key not in found or _scheduler_owns(key):
                    found[key] = value
        else:
            found = dict(own)
            if inherit == "node":
                _complete(found)
        if self.job["kind"] == "like":
            for item in traits.get("variables", ()):
                name = encode(item)
                for key in [key for key in found if key == name or (name.endswith(b"_") and key.startswith(name))]:
                    del found[key]
        elif self.index is not None:
            for item in traits.get("index_variables", ()):
                if encode(item) in found:
                    found[encode(item)] = b"%d" % self.index
        # The last is how sbatch was told not to pass the client's variables on: srun, in the job, would pass on none either.
        for name in (b"JOBYARD_NATIVE_ID", b"JOBYARD_ARRAY_ID", b"JOBYARD_TASK_INDEX", b"SLURM_EXPORT_ENV"):
            found.pop(name, None)
        if b"PWD" in found:  # the shell that started us put the folder there
            found[b"PWD"] = self.directory()
        for key, value in description.get("environment", {}).items():
            found[encode(key)] = encode(value)
        token = self.job["token"]
        found[b"JOBYARD_JOB_ID"] = encode(token if self.job["kind"] == "single" else "%s.%d" % (token, self.number))
        if "JOBYARD_NATIVE_ID" in traits.get("native_id_variables", ()):  # the embedded scheduler: each task has a token
            found[b"JOBYARD_JOB_ID"] = own.get(b"JOBYARD_JOB_ID", found[b"JOBYARD_JOB_ID"])
        if self.native_id is not None:
            found[b"JOBYARD_NATIVE_ID"] = encode(self.native_id)
        if self.index is not None:
            found[b"JOBYARD_ARRAY_ID"] = encode(self.array_id or "")
            found[b"JOBYARD_TASK_INDEX"] = b"%d" % self.index
        return found

    def fill(self, text: "str") -> "bytes":
        """A path with its placeholders filled in."""
        path = encode(text)
        if b"\0" in path:
            path = path.replace(b"\0home\0", home_directory(self.own))
            path = path.replace(b"\0index\0", b"" if self.index is None else b"%d" % self.index)
            path = path.replace(b"\0native_id\0", encode(self.array_id or ""))
            if b"\0directory\0" in path:
                path = path.replace(b"\0directory\0", self.directory())
        return path

    def directory(self) -> "bytes":
        """The job's directory; ``work`` in the folder where none was given."""
        text = self.description.get("directory")
        if text is None:
            return self.folder + b"/work" + self.suffix()
        path = self.fill(text.replace("\0directory\0", ""))
        return path if path.startswith(b"/") else home_directory(self.own) + b"/" + path

    def suffix(self) -> "bytes":
        """What tells the task's own files in the folder from others': its index, or its number where it has none."""
        return b"" if self.job["kind"] == "single" else b".%d" % (self.number if self.index is None else self.index)

    def path(self, text: "str") -> "bytes":
        """An absolute path; a relative one lies in the job's directory."""
        path = self.fill(text)
        return path if path.startswith(b"/") else self.directory() + b"/" + path

    def spec(self) -> "Dict[str, Any]":
        """What ``run`` needs."""
        get, traits = self.description.get, self.traits
        suffix = self.suffix()
        stdin, stdout, stderr = get("stdin"), get("stdout"), get("stderr")
        if stderr is not None:
            error = self.path(stderr)  # type: Optional[bytes]
        else:
            error = None if get("join_streams") else self.folder + b"/stderr" + suffix
        return {
            "argv": [encode(word) for word in self.description["argv"]],
            "directory": self.directory(),
            "stdin": b"/dev/null" if stdin is None else self.path(stdin),
            "stdout": self.folder + b"/stdout" + suffix if stdout is None else self.path(stdout),
            "stderr": error,
            "append": bool(get("append_streams")),
            "folder": self.folder,
            "limits": get("limits", {}),
            "own_group": bool(traits.get("own_group")),
            "keep_descriptors": bool(traits.get("keep_descriptors")),
        }


def _position(
    job: "Dict[str, Any]", traits: "Dict[str, Any]", own: "Environment", argument: "Optional[str]"
) -> "Tuple[int, Optional[int]]":
    """The task's number, and its user's index (None: it has none)."""
    if job["kind"] == "single":
        return 0, None
    shown = argument if traits.get("index_argument") else _first(traits.get("index_variables", ()), own)
    if shown is None:
        raise ValueError("the scheduler does not tell which task this is")
    value, number = int(shown), 0
    position = value - traits.get("index_offset", 0) if traits.get("positions") else None
    for first, step, count in job["indices"]:
        if position is not None:
            if position - number < count:
                if position < 0:
                    break
                return position, first + step * (position - number) if job["kind"] == "array" else None
        else:
            at, rest = divmod(value - first, step)
            if not rest and 0 <= at < count:
                return number + at, value if job["kind"] == "array" else None
        number += count
    raise ValueError("the scheduler shows the index %r, which is none of this job's" % (shown,))


def _first(names: "List[str]", own: "Environment") -> "Optional[str]":
    """The first of these variables that has a value; Grid Engine sets "undefined" where it has none."""
    for name in names:
        value = own.get(encode(name))
        if value and value != b"undefined":
            return decode(value)
    return None


def _native_id(traits: "Dict[str, Any]", own: "Environment", task: "bool") -> "Optional[str]":
    """The scheduler's id of this run. A task's may be made of several variables: ``{JOB_ID}.{SGE_TASK_ID}``."""
    template = traits.get("task_id_template") if task else None
    if template:
        parts = template.split("{")
        found = parts[0]
        for part in parts[1:]:
            name, _, rest = part.partition("}")
            value = own.get(encode(name))
            if not value:
                break
            found += decode(value) + rest
        else:
            return str(found)
    found = _first(traits.get("native_id_variables", ()), own)
    if found and traits.get("native_id_after"):
        found = found.rpartition(traits["native_id_after"])[2]
    return _from_base58(found) if found and traits.get("native_id_base58") else found


def _from_base58(text: "str") -> "str":
    """Flux's id as a decimal number; what is none of the kind as it is."""
    value = 0
    for letter in text[1:]:
        digit = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".find(letter)
        if digit < 0:
            return text
        value = value * 58 + digit
    return str(value) if text[:1] in ("f", "\u0192") and value else text


def _scheduler_owns(name: "bytes") -> "bool":
    return name.startswith(SCHEDULER_VARIABLES) or name in NODE_VARIABLES


def _complete(found: "Environment") -> "None":
    """Add what a login gives, where the scheduler gave none."""
    if all(name in found for name in (b"HOME", b"USER", b"LOGNAME", b"SHELL", b"PATH")):
        return
    found.setdefault(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
    try:
        entry = __import__("pwd").getpwuid(posix.getuid())
    except KeyError:
        return  # the node does not know this user
    found.setdefault(b"HOME", encode(entry.pw_dir))
    found.setdefault(b"SHELL", encode(entry.pw_shell or "/bin/sh"))
    found.setdefault(b"USER", encode(entry.pw_name))
    found.setdefault(b"LOGNAME", encode(entry.pw_name))


# The whole run -------------------------------------------------------------------------------------------------------


def main() -> "None":
    """Run the task that the arguments name. Never returns."""
    for fd in (0, 1, 2):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # takes the free place
    folder = sys.argv[1].encode(sys.getfilesystemencoding(), "surrogateescape").rstrip(b"/")
    note_signals()
    try:
        task = Task(folder, sys.argv[2] if len(sys.argv) > 2 else None)
        holder = task.claim()
        if holder is not None:
            task.refuse(holder)
            posix._exit(0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _complain("this job cannot begin: %s" % error)
        posix._exit(125)
    _report_faults(task)
    failures = _work(task)
    _end(task, task.result, failures)


def _complain(text: "str") -> "None":
    """To standard error, as far as it takes it: where the disk is full, that lies there too, and the exit code must not suffer."""
    try:
        posix.write(2, ("jobyard: %s\n" % text).encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _report_faults(task: "Task") -> "None":
    """A fault of our own becomes a receipt, not silence."""

    def report(kind: "Any", error: "Any", where: "Any") -> "None":
        lines = []
        while where is not None:
            lines.append("%s:%d" % (where.tb_frame.f_code.co_name, where.tb_lineno))
            where = where.tb_next
        message = "the shepherd failed: %s: %s (%s)" % (kind.__name__, error, ", ".join(lines))
        _complain(message)
        try:
            _end(task, task.result, [Failed("shepherd", message)])
        finally:
            posix._exit(125)

    sys.excepthook = report


def _work(task: "Task") -> "List[Failed]":
    """Stage in, run, stage out, clean up: what failed around the command. ``task.result``: how it ended."""
    get = task.description.get
    failures = []  # type: List[Failed]
    try:
        _run_command(task)
    except Failed as error:
        failures.append(error)
    result = task.result
    if result.get("failed"):  # a post-launch script
        failures.append(Failed("launch_script", result.pop("failed")))
    if result.get("exit_code") != 0:
        sleep(PAUSE_S)
    if get("stage_out") or get("cleanup"):
        outcome = "cancel" if told_to_end() else "error" if failures or result.get("exit_code") != 0 else "success"
        for kind, receipt in (("stage_out", "stage_out"), ("cleanup", "cleaning")):
            if get(kind) and not (kind == "stage_out" and failures and failures[0].cause == "staging"):
                task.tell(receipt)
                try:
                    _stage(task, kind, outcome)
                except Failed as error:
                    failures.append(error)
    return failures


def _run_command(task: "Task") -> "None":
    get = task.description.get
    if task.traits.get("guarded"):
        from .guard import Guard

        task.guard = Guard(task.folder, task.number, get("limits", {}).get("walltime_s"))
        task.guard.start()
    directory = task.directory()
    if directory == task.folder + b"/work" + task.suffix():
        try:
            posix.mkdir(directory, 0o700)
            posix.chmod(directory, 0o700)  # whatever the umask
        except FileExistsError:
            pass
    if get("stage_in"):
        task.tell("stage_in")
        _stage(task, "stage_in", "")
    environment = task.environment()
    if task.launch is None and not get("pre_launch") and not get("post_launch"):
        started = start(task.spec(), environment)
        if get("stage_in"):
            task.tell("running")
        task.result = wait(started)
    else:
        if get("stage_in"):
            task.tell("running")
        from . import launch

        task.result = launch.run_launched(task, environment)


def _stage(task: "Task", kind: "str", outcome: "str") -> "None":
    from . import staging

    directory, asked = task.directory(), task.description[kind]
    try:
        if kind == "cleanup":
            staging.clean_up([task.fill(name) for name in asked], directory, outcome, task.description.get("cleanup_when", 14))
            return
        items = [dict(item, source=task.fill(item["source"]), target=task.fill(item["target"])) for item in asked]
        if kind == "stage_in":
            staging.stage_in(items, directory)
        else:
            staging.stage_out(items, directory, outcome)
    except staging.StagingError as error:
        raise Failed("staging", str(error)) from error


def _end(task: "Task", result: "Dict[str, Any]", failures: "List[Failed]") -> "None":
    """Write the end receipt, then end as the command did."""
    number, code = result.get("signal"), result.get("exit_code")
    ran = bool(result)
    cause = message = cut = None
    if task.guard is not None:
        task.guard.stop()
        cut = task.guard.verdict
    if failures and (not ran or code == 0):  # a command that failed by itself says more than what failed after it
        cause = failures[0].cause
    elif ran and _cpu_time_passed(task, result):
        cause = "cpu_time"
    if failures:
        message = "; ".join([error.message for error in failures])[:8000]
    if cut is not None:
        cause, message = cut[0], "; ".join([cut[1]] + [error.message for error in failures if error.cause != "cancelled"])[:8000]
    own = number is None or number in FAULTS
    fields = {
        "exit_code": code,
        "signal": number,
        "core": result.get("core", False),
        "cause": None if cause == "cancelled" and cut is None else cause,
        "message": message,
        "signals": noted[:],
        "clean": cut is not None or (not noted and own and cause not in ("cpu_time", "shepherd")),
        "usage": result.get("usage", {}),
        "began_at": result.get("began_at"),
        "ended_at": result.get("ended_at", time()),
        "aborted": not ran and cause != "shepherd",  # where we failed it may have begun
    }
    try:
        task.receipt("end", **fields)
    except OSError as error:
        _complain("the job's ending could not be written to %s: %s" % (decode(task.folder), error))
    if number is not None:
        _die_of(number)
        code = 128 + number
    elif not ran or (failures and code == 0):
        code = failures[0].code if failures else 125
    posix._exit(task.traits.get("exit_map", {}).get(str(code), code))


def _cpu_time_passed(task: "Task", result: "Dict[str, Any]") -> "bool":
    limit = task.description.get("limits", {}).get("cpu_time_s")
    if limit is None or result["signal"] is None:
        return False
    if result["signal"] == signal.SIGXCPU:
        return "SIGXCPU" not in [name for name, _ in noted]  # the kernel's, not somebody's
    used = result["usage"]["user_s"] + result["usage"]["system_s"]
    return bool(result["signal"] == signal.SIGKILL and used >= limit)  # it caught XCPU and went on


def _die_of(number: "int") -> "None":
    """Repeat the command's signal, without a core dump of our own."""
    import resource

    for size in (1, 0):  # 1 also keeps a core pattern that pipes from dumping; 0 where the hard limit is 0
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (size, size))
            break
        except (OSError, ValueError):
            continue
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    posix.kill(posix.getpid(), number)
    sleep(1)  # process 1 of a container does not die of it
