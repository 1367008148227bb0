"""The command's frame: its verbs by name, loaded when used; errors as one line; exit statuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from ..errors import InvalidContact, InvalidJob, JobyardError

__all__ = ["COMMANDS", "complain", "run", "set_debug"]

INTERRUPTED = 130


class Verb(NamedTuple):
    """A command: its heading in the help, where it is, and what it does."""

    heading: str
    target: str  # "module:attribute" within this package
    text: str


COMMANDS = {
    "run": Verb("Jobs", "run:command", "Run a command as a job, show its output, and end as it does."),
    "submit": Verb("Jobs", "submit:command", "Submit a job or an array, and print its id."),
    "wait": Verb("Jobs", "wait:command", "Wait until jobs have ended."),
    "ls": Verb("Reading", "ls:command", "List jobs, the newest last."),
    "show": Verb("Reading", "show:command", "Show all that is known of a job."),
    "why": Verb("Reading", "why:command", "Show the evidence for a job's state, in order."),
    "logs": Verb("Reading", "logs:command", "Print what a job wrote."),
    "tail": Verb("Reading", "tail:command", "Print the end of a file that a job writes, and follow it."),
    "push": Verb("Files", "push:push_command", "Bring files and folders to a scheduler's host."),
    "pull": Verb("Files", "push:pull_command", "Bring files and folders from a scheduler's host."),
    "cancel": Verb("Control", "control:cancel", "End jobs."),
    "hold": Verb("Control", "control:hold", "Keep waiting jobs from starting."),
    "release": Verb("Control", "control:release", "Let held jobs go."),
    "suspend": Verb("Control", "control:suspend", "Stop running jobs for a while."),
    "resume": Verb("Control", "control:resume", "Let suspended jobs go on."),
    "clean": Verb("Upkeep", "clean:command", "Forget finished jobs: their records and kept output."),
    "schedulers": Verb("Upkeep", "schedulers:command", "Show known schedulers, and what each can do here."),
    "doctor": Verb("Upkeep", "doctor:command", "Check folders, clocks, Python and packages."),
}


class Verbs(click.Group):
    """Knows its commands by the table alone; ``--help`` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = COMMANDS.get(cmd_name)
        if verb is None:
            return None
        import importlib

        module, _, attribute = verb.target.partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JobyardError as error:
            if ctx.find_root().meta.get("debug"):
                raise
            # A job or a contact that makes no sense was written so by the user; the rest went wrong on its way.
            return complain(str(error), 2 if isinstance(error, InvalidJob | InvalidContact) else 1)
        except BrokenPipeError:  # whoever read our output has enough: click's main deals with it
            raise
        except OSError as error:
            if ctx.find_root().meta.get("debug"):
                raise
            return complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "see 'jobyard --help'"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for heading in dict.fromkeys(verb.heading for verb in COMMANDS.values()):
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), verb.text) for name, verb in COMMANDS.items() if verb.heading == heading])


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"jobyard {__version__}")
        ctx.exit()


def set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Callback of ``--debug``, which stands before or behind the verb."""
    if value:
        ctx.find_root().meta["debug"] = True


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, expose_value=False, callback=set_debug, help="Show where an error comes from.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version.")
@click.pass_context
def jobyard(ctx: click.Context) -> None:
    """Submit, follow and control jobs on any batch scheduler.

    Which one: --contact of each command, else JOBYARD_CONTACT, else the configured default, else the one scheduler found
    here, else the embedded scheduler of this machine.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status: 0, 1 for a failure, 2 for words that make no sense, 130 for Ctrl-C.

    What went wrong is one line on standard error.
    """
    try:
        value = jobyard.main(arguments, prog_name="jobyard", standalone_mode=False)
    except click.UsageError as error:
        return complain(_usage(error), 2)
    except click.ClickException as error:
        return complain(error.format_message(), error.exit_code)
    except click.Abort:
        return INTERRUPTED
    return value if isinstance(value, int) else 0


def _usage(error: click.UsageError) -> str:
    text = error.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    where = error.ctx.command_path if error.ctx is not None else "jobyard"
    return text if "; " in text else f"{text}; see '{where} --help'"


def complain(what: str, status: int) -> int:
    """Print one line on standard error; return the status."""
    from .output import plain

    click.echo(f"jobyard: {plain(what)}", err=True)
    return status
