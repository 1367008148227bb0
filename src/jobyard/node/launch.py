"""Commands that are not simply started: launchers, several copies, and pre- and post-launch scripts. Python 3.6 syntax.

The scripts are sourced by one shell, so that what the first exports reaches the command and the second. In between, that
shell runs ``run.py --launch PLAN``, which starts the command and writes down exactly how it ended: a shell's ``$?`` cannot
tell exit code 137 from a KILL. The shell's own text is constant; all that is the user's reaches it as arguments.
"""

import posix
import sys
from time import time

from .process import (
    NOTED,
    TOLD_TO_END,
    Failed,
    decode,
    dump,
    encode,
    load,
    note_signals,
    own_environment,
    publish,
    read_file,
    run,
    signal,
    start,
    told_to_end,
    wait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .process import Environment
    from .shepherd import Task

__all__ = ["hosts_of", "main", "run_launched"]

SHELLS = (b"/bin/bash", b"/usr/bin/bash", b"/bin/sh")
_PATHS = ("directory", "stdin", "stdout", "stderr", "folder")

# Signals end the command, not this shell: it waits for the command and then runs the second script. Arguments: python,
# run.py, the plan, both scripts or nothing, the signals to live through, and those that mean that nothing more is to begin.
SCRIPT = b"""
_jobyard_python=$1 _jobyard_run=$2 _jobyard_plan=$3 _jobyard_pre=$4 _jobyard_post=$5 _jobyard_told=
trap : $6
trap _jobyard_told=1 $7
set --
if [ -n "$_jobyard_pre" ]; then
    . "$_jobyard_pre"
    _jobyard_status=$?
    [ "$_jobyard_status" = 0 ] || exit "$_jobyard_status"
fi
[ -z "$_jobyard_told" ] || exit 0
"$_jobyard_python" -I -S "$_jobyard_run" --launch "$_jobyard_plan" || exit
if [ -n "$_jobyard_post" ]; then
    . "$_jobyard_post"
    _jobyard_status=$?
    [ "$_jobyard_status" = 0 ] || exit "$_jobyard_status"
fi
exit 0
"""


def run_launched(task: "Task", environment: "Environment") -> "Dict[str, Any]":
    """Run the task's command by its launcher and scripts; as ``process.run``, and ``failed``: what the second script said."""
    options = [encode(word) for word in task.description.get("launcher_options", [])]
    if task.launch is not None:
        environment = _with_host_file(task, environment)
    spec = task.spec()
    scripts = [task.description.get(kind) for kind in ("pre_launch", "post_launch")]
    if scripts == [None, None]:
        return _launch(spec, task.launch, options, environment)
    paths = [b"" if script is None else task.path(script) for script in scripts]
    for kind, path in (("pre", paths[0]), ("post", paths[1])):
        if path:
            try:
                posix.close(posix.open(path, posix.O_RDONLY))
            except OSError as error:
                raise Failed("launch_script", "the %s-launch script '%s': %s" % (kind, decode(path), error.strerror)) from error
    return _through_shell(task, spec, options, paths, environment)


# Scripts -------------------------------------------------------------------------------------------------------------


def _through_shell(
    task: "Task", spec: "Dict[str, Any]", options: "List[bytes]", paths: "List[bytes]", environment: "Environment"
) -> "Dict[str, Any]":
    name = b".launch.%d.%d" % (task.number, task.attempt)
    plan = task.folder + b"/" + name
    log = task.folder + b"/launch.%d.log" % task.number
    inner = dict(spec, own_group=False, directory=b".")  # the first script may have gone elsewhere
    texts = {key: None if inner[key] is None else decode(inner[key]) for key in _PATHS}  # type: Dict[str, Any]
    texts["argv"] = [decode(word) for word in spec["argv"]]
    value = {"spec": dict(inner, **texts), "launch": task.launch, "options": [decode(word) for word in options]}
    for old in (plan, plan + b".done"):
        if _there(old):
            posix.unlink(old)
    publish(task.folder, name, dump(value).encode())
    lived = " ".join([str(int(number)) for number in NOTED])
    ending = " ".join([str(int(number)) for number in NOTED if NOTED[number] in TOLD_TO_END])
    own = sys.getfilesystemencoding()
    python, entry = [word.encode(own, "surrogateescape") for word in (sys.executable, sys.argv[0])]
    argv = [next(shell for shell in SHELLS if _there(shell)), b"-c", SCRIPT, b"jobyard"]
    argv += [python, entry, plan, *paths, lived.encode(), ending.encode()]
    outer = dict(spec, argv=argv, stdin=b"/dev/null", stdout=log, stderr=None, append=False, limits={})
    shell = run(outer, environment)
    posix.unlink(plan)
    try:
        answer = load(decode(read_file(plan + b".done")))
    except FileNotFoundError:
        if told_to_end():
            raise Failed("cancelled", "told to end by %s before the command began" % told_to_end()) from None
        what = "the pre-launch script '%s'" % decode(paths[0]) if paths[0] else "the launch"
        raise Failed("launch_script", "%s %s" % (what, _said(shell, log))) from None
    posix.unlink(plan + b".done")
    if "failed" in answer:
        raise Failed(*answer["failed"])
    result = dict(answer["result"])
    if shell["exit_code"] != 0:
        result["failed"] = "the post-launch script '%s' %s" % (decode(paths[1]), _said(shell, log))
    return result


def _there(path: "bytes") -> "bool":
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def _said(shell: "Dict[str, Any]", log: "bytes") -> "str":
    """How the shell ended, and the last that it wrote."""
    how = "exited with %d" % shell["exit_code"] if shell["signal"] is None else "was ended by signal %d" % shell["signal"]
    fd = posix.open(log, posix.O_RDONLY)
    try:
        posix.lseek(fd, max(0, posix.fstat(fd).st_size - 2000), 0)
        said = posix.read(fd, 2000).decode("utf-8", "replace").strip()
    finally:
        posix.close(fd)
    return "%s: %s" % (how, said) if said else how


def main() -> "None":
    """``run.py --launch PLAN``: run what the plan says in this environment; the ending is written to ``PLAN.done``."""
    note_signals()
    plan = sys.argv[2].encode(sys.getfilesystemencoding(), "surrogateescape")
    value = load(decode(read_file(plan)))
    spec = value["spec"]
    for key in _PATHS:
        spec[key] = None if spec[key] is None else encode(spec[key])
    spec["argv"] = [encode(word) for word in spec["argv"]]
    folder, _, name = plan.rpartition(b"/")
    answer = {"failed": ["shepherd", "what runs the command between the scripts was killed"]}  # type: Dict[str, Any]
    publish(folder, name + b".done", dump(answer).encode(), exclusive=False)
    answer = {}
    try:
        answer["result"] = _launch(spec, value["launch"], [encode(word) for word in value["options"]], own_environment())
    except Failed as error:
        answer["failed"] = [error.cause, error.message, error.code]
    publish(folder, name + b".done", dump(answer).encode(), exclusive=False)
    posix._exit(0)


# Hosts ---------------------------------------------------------------------------------------------------------------


def _with_host_file(task: "Task", environment: "Environment") -> "Environment":
    """The environment in which variables of the launcher name a file with a line for each process."""
    launch = task.launch or {}
    names = [name for name in launch.get("host_file_variables", ()) if name not in task.description.get("environment", {})]
    if not names:
        return environment
    name = b"hosts.%d" % task.number
    hosts = hosts_of(task.own, launch.get("processes", 1), encode(task.host))
    publish(task.folder, name, b"".join([host + b"\n" for host in hosts]), exclusive=False)
    found = dict(environment)
    found.update({encode(variable): task.folder + b"/" + name for variable in names})
    return found


def hosts_of(own: "Environment", processes: "int", here: "bytes") -> "List[bytes]":
    """A host for each process, those of one host together: as the scheduler says it in this job's environment, and by
    halves, thirds and so on of its hosts where the places that it says are not as many; this host where it says none."""
    try:
        places = _places(own)
    except (ValueError, IndexError):  # it says it in a way that is not known here
        places = []
    if len(places) == processes:
        return places
    hosts = sorted(set(places), key=places.index) or [here]
    share, more = divmod(processes, len(hosts))
    return [host for at, host in enumerate(hosts) for _ in range(share + (at < more))]


def _places(own: "Environment") -> "List[bytes]":
    """The hosts of this job, each as often as it has places there; empty where the scheduler does not say."""
    for variable in (b"PBS_NODEFILE", b"OAR_NODEFILE", b"LSB_DJOB_HOSTFILE"):
        lines = _lines(own.get(variable))
        if lines:
            return [line.split()[0] for line in lines]
    lines = _lines(own.get(b"PE_HOSTFILE"))
    if lines:  # Grid Engine: host, slots, queue, processors
        return [words[0] for words in (line.split() for line in lines) for _ in range(int(words[1]))]
    names = _slurm_hosts(own.get(b"SLURM_JOB_NODELIST", b""))
    if names:
        counts = []  # type: List[int]
        for part in own.get(b"SLURM_TASKS_PER_NODE", b"1(x%d)" % len(names)).split(b","):
            count, _, times = part.partition(b"(x")
            counts += [int(count)] * int(times.rstrip(b")") or b"1")
        return [name for at, name in enumerate(names) for _ in range(counts[at])]
    return []


def _lines(path: "Optional[bytes]") -> "List[bytes]":
    if not path:
        return []
    try:
        return [line for line in read_file(path).splitlines() if line.strip()]
    except OSError:
        return []


def _slurm_hosts(text: "bytes") -> "List[bytes]":
    """``n[1-2,07],gpu3`` as Slurm means it: n1 n2 n07 gpu3."""
    parts, depth, start = [], 0, 0  # type: List[bytes], int, int
    for at, byte in enumerate(text + b","):
        if byte == 0x2C and not depth:
            parts.append(text[start:at])
            start = at + 1
        depth += (byte == 0x5B) - (byte == 0x5D)
    found = []  # type: List[bytes]
    for part in parts:
        head, bracket, rest = part.partition(b"[")
        if not bracket:
            found += [part] if part else []
            continue
        inside, _, tail = rest.partition(b"]")
        tails = _slurm_hosts(tail) if tail else [b""]
        for span in inside.split(b","):
            first, _, last = span.partition(b"-")
            for number in range(int(first), int(last or first) + 1):
                digits = (b"%d" % number).rjust(len(first), b"0")
                found += [head + digits + end for end in tails]
    return found


# Launchers -----------------------------------------------------------------------------------------------------------


def _launch(
    spec: "Dict[str, Any]", launch: "Optional[Dict[str, Any]]", options: "List[bytes]", environment: "Environment"
) -> "Dict[str, Any]":
    if launch is None:
        return run(spec, environment)
    argv = []  # type: List[bytes]
    for word in launch["argv"]:
        if word == "\0command\0":
            argv += spec["argv"]
        elif word == "\0options\0":
            argv += options
        elif word == "\0mpi\0":
            argv += _mpi_options(argv[0], options, launch.get("processes_per_node"), spec["directory"], environment)
        else:
            argv.append(encode(word))
    spec = dict(spec, argv=argv)
    return run(spec, environment) if launch.get("copies") is None else _run_copies(spec, launch, environment)


def _mpi_options(
    command: "bytes", options: "List[bytes]", per_node: "Optional[int]", directory: "bytes", environment: "Environment"
) -> "List[bytes]":
    """What this node's mpirun needs besides ``-n``: it says itself which MPI it is of.

    More processes than cores are the user's choice, which Open MPI refuses unless it is told (``--oversubscribe``; from 5
    on a part of ``--map-by``). A mapping that the user chose is left alone.
    """
    import subprocess

    try:
        said = subprocess.run(
            [command, b"--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            timeout=60,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # what is wrong shows when it is to start the command
    mapped = any(word.startswith((b"--map-by", b"-map-by", b"--rank-by", b"-ppn", b"--ppn", b"-npernode")) for word in options)
    if b"Open MPI" in said:
        digits = b""
        for byte in said.partition(b"Open MPI")[2].lstrip(b") v"):
            if not 48 <= byte <= 57:
                break
            digits += bytes([byte])
        if int(digits or b"0") >= 5:
            if mapped:
                return []
            return [b"--map-by", b"ppr:%d:node:OVERSUBSCRIBE" % per_node if per_node else b":OVERSUBSCRIBE"]
        return [b"--oversubscribe"] + ([b"--map-by", b"ppr:%d:node" % per_node] if per_node and not mapped else [])
    if per_node and not mapped and any(name in said for name in (b"HYDRA", b"MPICH", b"Intel(R) MPI")):
        return [b"-ppn", b"%d" % per_node]
    return []


def _run_copies(spec: "Dict[str, Any]", launch: "Dict[str, Any]", environment: "Environment") -> "Dict[str, Any]":
    """Copies side by side, with one file for each stream; the first in order that failed decides."""
    count = launch["copies"]
    began = time()
    started = []  # type: List[Any]
    group = spec["own_group"]
    for number in range(count):
        own = dict(environment)
        for name, first in launch.get("index_variables", []):
            own[encode(name)] = b"%d" % (number + first)
        for name in launch.get("count_variables", []):
            own[encode(name)] = b"%d" % count
        one = dict(spec, shared=True, append=spec["append"] or number > 0, own_group=group)
        try:
            started.append(start(one, own))
        except Failed:
            for pid, _, _ in started:
                posix.kill(pid, signal.SIGTERM)
            for each in started:
                wait(each)
            raise
        if group is True:
            group = started[0][0]
    results = [wait(each, more=each is not started[-1]) for each in started]
    decides = next((result for result in results if result["exit_code"] != 0), results[0])
    usage = dict(results[0]["usage"])
    for result in results[1:]:
        for name, value in result["usage"].items():
            usage[name] = max(usage[name], value) if name in ("wall_s", "max_rss_bytes") else usage[name] + value
    return dict(decides, usage=usage, began_at=began, ended_at=max([result["ended_at"] for result in results]))
