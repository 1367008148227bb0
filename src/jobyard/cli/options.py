"""Options: those of every verb, and the table from which ``run`` and ``submit`` get theirs."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from .app import set_debug

__all__ = ["JOBS", "JOB_OPTIONS", "common", "fields_of", "job_options", "json_option", "parse_begin", "parse_indices", "seconds"]

Function = TypeVar("Function", bound=Callable[..., Any])

_MOST_TASKS = 10_000_000  # beyond that, a list of indices is a slip of the pen


def common(function: Function) -> Function:
    """``--contact``, ``--site`` and ``--debug``, which every verb has; the verb gets a contact."""

    @functools.wraps(function)
    def sited(*arguments: Any, contact: str | None, site: str | None, **values: Any) -> Any:
        if site is not None:
            if contact is not None:
                raise click.UsageError("--site and --contact both say which scheduler is meant; give one of them")
            contact = f"site:{site}"
        return function(*arguments, contact=contact, **values)

    made = click.option(
        "--debug", is_flag=True, expose_value=False, callback=set_debug, hidden=True, help="Show where an error comes from."
    )(cast(Function, sited))
    made = click.option("--site", metavar="NAME", help="A site of the configuration; short for --contact site:NAME.")(made)
    return click.option("--contact", "-C", metavar="CONTACT", help="Scheduler, host and session, such as slurm+ssh://me@host.")(
        made
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


if TYPE_CHECKING:
    _Text = click.ParamType[str]  # generic since click 8.4, and only for type checkers
else:
    _Text = click.ParamType


class _Reference(_Text):
    """A job: its native id, or the beginning of its token. Completes to those of the newest jobs."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("a job's id is empty; see 'jobyard ls'", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from ..errors import JobyardError
        from .jobs import listing

        try:
            site = ctx.params.get("site")
            entries = listing(ctx.params.get("contact") if site is None else f"site:{site}", newest=50)
        except (JobyardError, OSError):  # a shell's completion must stay silent
            return []
        return [CompletionItem(e.native_id, help=e.name) for e in entries if e.native_id and e.native_id.startswith(incomplete)]


JOBS = _Reference()


def seconds(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Callback of options that are durations."""
    if value is None:
        return None
    from ..units import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


# Jobs' own options ------------------------------------------------------------------------------------------------------


class JobOption(NamedTuple):
    """One option of a job description: its flags, the field that it fills, and what it says."""

    flags: tuple[str, ...]
    field: str
    help: str
    metavar: str | None = None
    kind: Any = str  # "flag", int, str, "many", "pairs", or the words to choose from
    convert: Callable[[Any], Any] | None = None


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            if key not in os.environ:
                raise ValueError(f"{value!r} has no value, and the environment has none to pass on; write {value}=VALUE")
            text = os.environ[key]
        found[key] = text
    return found


def parse_begin(text: str, now: float | None = None) -> float:
    """Seconds since the epoch: ``+10m``, ``14:30`` (the next one), ``2026-11-20 14:30``, in this machine's time zone.

    ValueError says how to write it.
    """
    from datetime import datetime, timedelta

    from ..units import parse_duration

    now = time.time() if now is None else now
    text = text.strip()
    if text.startswith("+"):
        return now + parse_duration(text[1:])
    clock = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", text)
    try:
        if clock:
            today = datetime.fromtimestamp(now)
            at = today.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0), microsecond=0)
            return (at if at > today else at + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is no time; write '+10m', '14:30' or '2026-11-20 14:30'") from None


def parse_indices(text: str) -> tuple[list[int], int | None]:
    """Indices and the most tasks at a time of ``1-30:2%4``, ``1,3,7-9``. ValueError says how to write it."""
    ranges, percent, most = text.partition("%")
    wrong = ValueError(f"{text!r} is no list of indices; write '1-30', '1-30:2', '1,3,7-9', each with '%4' for four at a time")
    if percent and (not re.fullmatch(r"[0-9]{1,9}", most) or int(most) < 1):
        raise wrong
    chosen: list[int] = []
    for part in ranges.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18})(?::([0-9]{1,18}))?)?\s*", part)
        if match is None:
            raise wrong
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step < 1 or last < first:
            raise wrong
        indices = range(first, last + 1, step)
        if len(chosen) + len(indices) > _MOST_TASKS:
            raise ValueError(f"{text!r} has more than {_MOST_TASKS} indices")
        chosen.extend(indices)
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"{text!r} has an index twice")
    return sorted(chosen), int(most) if percent else None


JOB_OPTIONS = (
    JobOption(("--name", "-n"), "name", "Name of the job.", "NAME"),
    JobOption(("--cores", "-c"), "cores", "Cores of each process.", "N", int),
    JobOption(("--processes", "-p"), "processes", "Processes in all.", "N", int),
    JobOption(("--processes-per-node",), "processes_per_node", "Processes on each node.", "N", int),
    JobOption(("--nodes", "-N"), "nodes", "Nodes.", "N", int),
    JobOption(("--gpus", "-g"), "gpus", "GPUs of each process.", "N", int),
    JobOption(("--memory", "-m"), "memory", "Memory of the whole job, such as 512MiB.", "SIZE"),
    JobOption(("--exclusive",), "exclusive", "Share the nodes with no other job.", None, "flag"),
    JobOption(("--walltime", "-t"), "walltime", "Longest time, such as 10m or 1:30:00.", "TIME"),
    JobOption(("--cpu-time",), "cpu_time", "Most CPU time.", "TIME"),
    JobOption(
        ("--env", "-e"), "environment", "A variable; without a value, the one that is set here.", "NAME[=VALUE]", "many", _pairs
    ),
    JobOption(("--inherit",), "inherit", "Whose environment the job starts from.", None, ("client", "node", "none")),
    JobOption(("--directory", "-d"), "directory", "Working directory.", "PATH"),
    JobOption(("--stdin", "-i"), "stdin", "File to read from.", "PATH"),
    JobOption(("--stdout", "-o"), "stdout", "File for the output, instead of keeping it for 'logs'.", "PATH"),
    JobOption(("--stderr",), "stderr", "File for the errors, instead of keeping them for 'logs'.", "PATH"),
    JobOption(("--join",), "join_streams", "Errors go where the output goes.", None, "flag"),
    JobOption(("--append",), "append_streams", "Append to these files.", None, "flag"),
    JobOption(("--queue", "-q"), "queue", "Queue or partition.", "NAME"),
    JobOption(("--account", "-A"), "account", "Account or project to charge.", "NAME"),
    JobOption(("--reservation",), "reservation", "Reservation to run in.", "NAME"),
    JobOption(("--priority",), "priority", "Higher is sooner; 0 is usual.", "N", int),
    JobOption(("--hold",), "hold", "Submit it held.", None, "flag"),
    JobOption(("--after",), "after", "A job that must end first: with success, failure, or any ending.", "JOB[:WHEN]", "many"),
    JobOption(("--begin",), "begin_at", "Not before: +10m, 14:30, or 2026-11-20 14:30.", "TIME", str, parse_begin),
    JobOption(("--launcher",), "launcher", "How processes are started: single, multiple, mpirun, srun, ...", "NAME"),
    JobOption(("--native",), "native", "A word for the scheduler's own submit command.", "WORD", "many"),
    JobOption(("--attribute",), "attributes", "As in slurm.constraint=gpu.", "KEY=VALUE", "many", _pairs),
    JobOption(("--rerunnable",), "rerunnable", "The scheduler may run it again.", None, "flag"),
)


def job_options(function: Function) -> Function:
    """The options of the table, in its order, and the command's words."""
    function = click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")(function)
    for option in reversed(JOB_OPTIONS):
        settings: dict[str, Any] = {"help": option.help, "metavar": option.metavar, "default": None}
        if option.kind == "flag":
            settings.update(is_flag=True, metavar=None)
        elif option.kind == "many":
            settings.update(multiple=True)
        elif isinstance(option.kind, tuple):
            settings.update(type=click.Choice(option.kind), metavar=None)
        else:
            settings.update(type=option.kind)
        function = click.option(*option.flags, option.field, **settings)(function)
    return function


def fields_of(values: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``Session.submit`` for what was said; ``after`` is left as written. Usage errors name the option."""
    fields: dict[str, Any] = {}
    for option in JOB_OPTIONS:
        value = values.get(option.field)
        if value is None or value is False or value == ():
            continue
        if option.convert is not None:
            try:
                value = option.convert(value)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint=option.flags[0]) from error
        fields[option.field] = list(value) if option.kind == "many" and option.convert is None else value
    return fields
