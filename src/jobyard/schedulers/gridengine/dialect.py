"""Grid Engine's commands, and what they answer. Pure.

Written for 8.1 (Son of Grid Engine) and its relatives. All commands run with UTC as their zone, so that times need no guess, and
in the C locale. What qstat cannot say in one call (who holds a job, why it waits) it says in further calls of the same command
of ours, each only where a job in its first answer needs it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ...errors import ControlError, JobyardError, NotPermitted, SchedulerUnavailable, SubmitError, UnknownJob, WrongState
from ...job import JobDescription
from ..base import (
    Accepted,
    Action,
    Answer,
    Capabilities,
    Command,
    Kind,
    Result,
    Row,
    SiteLimits,
    Submission,
    Traits,
)
from . import accounting, queue
from .queue import MARK
from .site import Site, parse_limits, parse_site
from .submit import ATTRIBUTES, Choices, check, needs_site, qsub_options, sends_positions

__all__ = ["GridEngineDialect"]

_ENVIRONMENT = {"TZ": "UTC0", "LC_ALL": "C"}
_WITH_REASONS = 50  # so many waiting jobs are asked why they wait
_ONE_BY_ONE = 4  # so many records are looked up one by one; more, in one pass over all records of the user
_AT_ONCE = 400  # ids in one control command

_QUERY = f"""
main=$(qstat -u '$user' -s prs -r -xml) || exit
printf '{MARK} queue\\n%s\\n' "$main"
case $main in *'<job_list state="pending">'*)
    later=$(qstat -u '$user' -s ha -xml) && printf '{MARK} ha\\n%s\\n' "$later"
    case $main in *'<state>h'*|*'<state>Eh'*)
        for kind in hu ho hs hj; do
            said=$(qstat -u '$user' -s $kind -xml) && printf '{MARK} %s\\n%s\\n' $kind "$said"
        done ;;
    esac
    ids=$(printf '%s\\n%s\\n' "$later" "$main" | awk -v most="$1" '
        /<job_list / {{ waits = /pending/ }}
        /<JB_job_number>/ {{ gsub(/[^0-9]/, ""); id = $0 }}
        /<state>/ && waits {{ word[id] = word[id] $0; if (!(id in seen)) {{ seen[id] = 1; order[++n] = id }} }}
        END {{
            for (error = 1; error >= 0; error--)
                for (i = 1; i <= n; i++)
                    if ((word[order[i]] ~ />[A-Za-z]*E/) == error && a++ < most) printf "%s%s", (a > 1 ? "," : ""), order[i]
        }}')
    if [ -n "$ids" ]; then
        said=$(qstat -j "$ids" -xml) && printf '{MARK} details\\n%s\\n' "$said"
    fi
    printf '{MARK} now\\n%s\\n' "$(date +%s)" ;;
esac
printf '{MARK} end\\n'
"""
_FIND = f"""
main=$(qstat -u '$user' -s prs -xml) || exit
printf '{MARK} queue\\n%s\\n' "$main"
ids=$(printf '%s\\n' "$main" | sed -n 's/.*<JB_job_number>\\([0-9]*\\)<.*/\\1/p' | sort -un)
if [ -n "$ids" ]; then
    printf '{MARK} details\\n'
    printf '%s\\n' $ids | xargs -n 500 | tr ' ' , | while read -r some; do qstat -j "$some" -xml || exit; done || exit
fi
printf '\\n{MARK} end\\n'
"""
# qacct reads the whole accounting file each time: a few ids one by one, more in one pass, of which the rest is left out.
_ACCOUNT = f"""
if [ $# -le {_ONE_BY_ONE} ]; then
    for id do qacct -j "$id"; done
else
    qacct -o "$(id -un)" -j | awk -v wanted="$*" '
        BEGIN {{ n = split(wanted, list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }}
        /^=====/ || /^(OWNER|Total System Usage)/ {{ if (keep) printf "%s", text; text = ""; keep = 0 }}
        {{ text = text $0 "\\n" }}
        $1 == "jobnumber" && ($2 in want) {{ keep = 1 }}
        END {{ if (keep) printf "%s", text }}'
fi
printf '{MARK} end\\n'
"""
_FIND_ACCOUNT = f"""
if [ $# -le {_ONE_BY_ONE} ]; then
    for token do qacct -A "$token" -j; done
else
    qacct -o "$(id -un)" -j | awk -v wanted="$*" '
        BEGIN {{ n = split(wanted, list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }}
        /^=====/ || /^(OWNER|Total System Usage)/ {{ if (keep) printf "%s", text; text = ""; keep = 0 }}
        {{ text = text $0 "\\n" }}
        $1 == "account" && ($2 in want) {{ keep = 1 }}
        END {{ if (keep) printf "%s", text }}'
fi
printf '{MARK} end\\n'
"""
_SITE = """
qconf -sc || exit
qconf -spl | while read -r name; do qconf -sp "$name"; done
:
"""
# A run that is rescheduled is ended at its host's next report (load_report_time, 40 s where a site says nothing else). A job that
# is sent to the same host before that is not run again: the old process is kept, or the new one killed; on another host both run
# for a while (measured on 8.1.9: 9 of 12 jobs went wrong). So it may not begin before; waiting tasks of its array wait, too.
_REQUEUE = """
wait=$(qconf -sconf global 2>/dev/null |
    awk '$1 == "load_report_time" { n = split($2, part, ":"); for (i = 1; i <= n; i++) s = s * 60 + part[i]; print s }')
at=$(date -d "@$(($(date +%s) + ${wait:-40} + 10))" +%Y%m%d%H%M.%S 2>/dev/null)
said=$(qmod -rj "$@")
code=$?
printf '%s\\n' "$said"
ids=$(printf '%s\\n' "$said" | sed -nE 's/.*ushed rescheduling of job(-array task)? ([0-9]+).*/\\2/p' | sort -u | paste -s -d , -)
[ -z "$ids" ] || [ -z "$at" ] || qalter -a "$at" "$ids" >/dev/null 2>&1
exit $code
"""

_ID = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")
_SUBMITTED = re.compile(r"([0-9]{1,10})(\.[0-9]{1,10}-[0-9]{1,10}:[0-9]{1,10})?")
_GONE = re.compile(
    r"commlib error|unable to (?:send message to|contact) qmaster|got (?:send|select|read) error|can't unpack|timeout", re.I
)
_LATER = 25  # qsub's exit code where a limit on the number of jobs is reached (qsub(1))

# What control commands say, a line for each job: the job is ``J`` (number), its tasks ``T`` (a list or range).
_TASK = r"(?P<job>[0-9]+)(?:\.(?P<task>[0-9]+))?"
_SAID: tuple[tuple[str, type[JobyardError] | None], ...] = (
    (rf"has (?:deleted|registered) (?:the )?job(?:-array task)? {_TASK}(?: for deletion)?$", None),
    (r"has (?:deleted|registered) (?:the )?job-array tasks (?P<tasks>[0-9,:-]+) of job (?P<job>[0-9]+)(?: for deletion)?$", None),
    (rf"^job(?:-array task)? {_TASK} is already in deletion$", None),
    (rf"^modified hold of job(?:-array task)? {_TASK}$", None),
    (rf" - (?:un)?suspended job(?:-array task)? {_TASK}$", None),
    (rf" - job(?:-array task)? {_TASK} is already (?:un)?suspended$", WrongState),
    (rf"[Pp]ushed rescheduling of job(?:-array task)? {_TASK}\b", None),
    (rf"^Modify operation can not be applied on job(?:-array task)? {_TASK} in ", WrongState),
    (rf"^The job(?:-array task)? {_TASK} is running in queue \S+ where jobs are not rerunable", ControlError),
    (rf"^The job(?:-array task)? {_TASK} is not (?:restartable|rerunable)", ControlError),
    (rf'^denied: job(?:-array task)? "?{_TASK}"? does not exist$', UnknownJob),
    (r'^job "(?P<job>[0-9]+)" task "(?P<task>[0-9]+)" does not exist$', UnknownJob),
    (r'^job "(?P<job>[0-9]+)" task id range "(?P<tasks>[0-9,:-]+)" comprises no tasks$', UnknownJob),
    (rf'^invalid queue or job "{_TASK}"$', UnknownJob),
    (rf'you do not have the necessary privileges to \w+ the job(?:-array task)? "?{_TASK}"?', NotPermitted),
    (rf'you have no permission to \w+ (?:the )?job(?:-array task)? "?{_TASK}"?', NotPermitted),
    (rf'^denied: "[^"]*" must be at least owner of job {_TASK} ', NotPermitted),
    (rf"^denied: .*\bjob {_TASK}\b", NotPermitted),
)
_LINES = tuple((re.compile(pattern), error) for pattern, error in _SAID)


class GridEngineDialect:
    """Dialect of jobyard.schedulers.base for qsub, qstat, qacct, qdel, qhold, qrls, qmod and qconf.

    ``site``: what the site has, once it was asked (GridEngineScheduler does); None: jobs that need it are not looked at.
    """

    name = "gridengine"
    programs: tuple[str, ...] = ("qsub", "qstat", "qdel", "qconf")
    hint = "source the cell's settings.sh, or install the client commands (Debian: gridengine-client)"
    traits = Traits(
        native_id_variables=("JOB_ID",),
        task_id_template="{JOB_ID}.{SGE_TASK_ID}",
        array_id_variables=("JOB_ID",),
        index_variables=("SGE_TASK_ID",),
        exit_map={"99": 1, "100": 1},  # 99 runs the job again without end, 100 keeps it in the queue for ever, -r n or not
        variables=("SGE_TASK_",),
    )
    capabilities = Capabilities(
        attributes=ATTRIBUTES,
        actions=frozenset(set(Action) - {Action.SIGNAL}),
        arrays=True,
        max_running=True,
        per_task_control=True,
        dependencies=frozenset({"any"}),
        accounting=True,
        notes={
            "after": "-hold_jid waits for the end of a job, whatever it is: use after=[(job, 'any')], and look at its ending",
            "signal": "a user can only suspend, resume and cancel; options -notify and -l s_rt announce a suspension and an end",
            "run_time_s": "h_rt counts the time since the start, suspended or not: use walltime",
            "soft_walltime_s": "a soft limit makes the hard one late there: use walltime, or -l s_rt in native",
            "deadline_at": "it keeps deadlines for users of its deadline list: use -dl in native",
            "category": "use native, or a qsub options file: native=('-@', FILE)",
        },
    )

    def __init__(self, choices: Choices | None = None, site: Site | None = None) -> None:
        self.choices = choices or Choices()
        self.site = site

    # Submission

    def check(self, description: JobDescription, *, kind: Kind, tasks: int, max_running: int | None) -> None:
        check(description, self.site, self.choices, kind=kind)

    def needs_site(self, description: JobDescription) -> bool:
        """Whether what the site has decides how this job is asked for."""
        return needs_site(description)

    def traits_of(self, submission: Submission) -> Traits:
        """Those of one submission: what Grid Engine cannot count by the user's indices it counts 1, 2, 3."""
        if submission.kind is Kind.SINGLE or not sends_positions(submission):
            return self.traits
        return _POSITIONS

    def directives(self, submission: Submission) -> Sequence[str]:
        return ()  # all stands on the command line, which beats directives and the site's defaults

    def submit_command(self, submission: Submission, script: str) -> Command:
        options = qsub_options(submission, self.site, self.choices)
        return Command(argv=("qsub", *options, script), environment=_ENVIRONMENT)

    def parse_submit(self, result: Result, submission: Submission) -> Accepted:
        number = None
        for line in result.text.splitlines():
            if match := _SUBMITTED.fullmatch(line.strip()):
                number = match
        said = result.error_text or result.text.strip()
        if number is not None and (number[2] is not None) == (submission.kind is not Kind.SINGLE):
            return _accepted(number[1], submission)
        if number is not None:
            raise SchedulerUnavailable("it took the job as another kind than was asked for; look for -t in the options")
        if result.returncode < 0 or _GONE.search(said) or not said:
            raise SchedulerUnavailable("it is not known whether the job was taken")
        if result.returncode == 0:
            raise SchedulerUnavailable("it printed no id")
        text = " ".join(line.strip() for line in said.splitlines() if line.strip() not in ("", "Exiting."))
        raise SubmitError(f"gridengine refused the job: {text}", retryable=result.returncode == _LATER, output=said)

    def find_commands(self, submissions: Sequence[Submission]) -> Sequence[Command]:
        tokens = [submission.token for submission in submissions]
        return [
            Command(argv=("sh", "-c", _FIND), environment=_ENVIRONMENT),
            Command(argv=("sh", "-c", _FIND_ACCOUNT, "sh", *tokens), environment=_ENVIRONMENT),
        ]

    def parse_find(self, results: Sequence[Result], submissions: Sequence[Submission]) -> Mapping[str, Accepted]:
        by_token = {submission.token: submission for submission in submissions}
        numbers: dict[str, str] = {}
        answer = queue.parse_queue(results[0])
        listed = {row.native_id.partition(".")[0] for row in answer.rows}
        details = queue.parse_details(results[0].text)
        for one in details.values():
            if one.token in by_token:
                numbers.setdefault(one.token, one.number)
        if not by_token.keys() <= numbers.keys() and not answer.complete:
            raise SchedulerUnavailable("the answer was cut short")
        if len(results) > 1:
            known = accounting.parse_accounting(results[1])
            for token, number in accounting.accounts(results[1]):
                if token in by_token:
                    numbers.setdefault(token, number)
            gone = listed - details.keys()  # between the two questions: accounting knows them, if there is one that can be asked
            if gone and not known.complete and not by_token.keys() <= numbers.keys():
                raise SchedulerUnavailable(f"job {min(gone)} was listed, and was gone before it could be looked at")
        return {token: _accepted(number, by_token[token]) for token, number in numbers.items()}

    # What became of them

    def query_command(self, native_ids: Collection[str]) -> Command:
        return Command(argv=("sh", "-c", _QUERY, "sh", str(_WITH_REASONS)), environment=_ENVIRONMENT)

    def parse_query(self, result: Result) -> Answer:
        return queue.parse_queue(result)

    def account_command(self, native_ids: Collection[str]) -> Command | None:
        return Command(argv=("sh", "-c", _ACCOUNT, "sh", *_numbers(native_ids)), environment=_ENVIRONMENT, timeout_s=300.0)

    def parse_account(self, result: Result) -> Answer:
        return accounting.parse_accounting(result)

    def list_command(self) -> Command:
        return self.query_command(())

    def parse_list(self, result: Result) -> Sequence[Row]:
        return queue.parse_queue(result).rows

    # Control

    def control_commands(
        self, action: Action, native_ids: Sequence[str], *, signal: int | None
    ) -> Sequence[tuple[Command, tuple[str, ...]]]:
        commands: list[tuple[Command, tuple[str, ...]]] = []
        words, concerned = [], []
        for word, ids in _words(native_ids):
            words.append(word)
            concerned += ids
            if len(words) == _AT_ONCE:
                commands.append((_control(action, words), tuple(concerned)))
                words, concerned = [], []
        if words:
            commands.append((_control(action, words), tuple(concerned)))
        return commands

    def parse_control(self, action: Action, result: Result, native_ids: Sequence[str]) -> Mapping[str, JobyardError | None]:
        tasks: dict[str, list[str]] = {}
        for native_id in native_ids:
            tasks.setdefault(native_id.partition(".")[0], []).append(native_id)
        exact: dict[str, tuple[type[JobyardError] | None, str]] = {}
        general: dict[str, tuple[type[JobyardError] | None, str]] = {}  # said of an array, where its tasks were asked about
        strange: list[str] = []
        mentioned: set[str] = set()
        for line in (*result.text.splitlines(), *result.error_text.splitlines()):
            if not line.strip():
                continue
            said = _said(line.strip())
            if said is None:
                strange.append(line)
                continue
            error, number, wanted = said
            mentioned.add(number)
            for native_id in tasks.get(number, ()):
                if wanted is None or (native_id == number and wanted == ["1"]):
                    into = exact if native_id == number else general
                elif native_id.partition(".")[2] in wanted:
                    into = exact
                else:
                    continue
                if error is None or native_id not in into:
                    into[native_id] = (error, line.strip())
        if result.returncode < 0 or any(_GONE.search(line) for line in strange):
            raise SchedulerUnavailable("the command did not reach the scheduler")
        if strange and not exact and not general:
            raise SchedulerUnavailable("it says nothing of the jobs")
        answers: dict[str, JobyardError | None] = {}
        for native_id in native_ids:
            known = exact.get(native_id) or general.get(native_id)
            if known is not None:
                answers[native_id] = _error(action, native_id, *known)
            elif not strange and action in (Action.HOLD, Action.RELEASE) and result.returncode == 0:
                answers[native_id] = None  # qhold and qrls do not mention what is already as it was to be (measured on 8.1.9)
            elif not strange and action is Action.CANCEL and "." in native_id and native_id.partition(".")[0] in mentioned:
                # Of a range, qdel mentions only those tasks that are still there (measured on 8.1.9).
                answers[native_id] = _error(action, native_id, WrongState, "it has ended")
        return answers

    # The site

    def site_command(self) -> Command:
        """What tells the parallel environments and the resources."""
        return Command(argv=("sh", "-c", _SITE), environment=_ENVIRONMENT)

    def parse_site(self, result: Result) -> Site:
        """Its answer."""
        return parse_site(result)

    def knowing(self, result: Result) -> GridEngineDialect:
        """As SiteDialect.knowing."""
        return GridEngineDialect(self.choices, self.parse_site(result))

    def limits_command(self) -> Command | None:
        return Command(argv=("qconf", "-sconf", "global"), environment=_ENVIRONMENT)

    def parse_limits(self, result: Result) -> SiteLimits:
        return parse_limits(result)

    def version_command(self) -> Command:
        return Command(argv=("qstat", "-help"), environment=_ENVIRONMENT)

    def parse_version(self, result: Result) -> str:
        match = re.match(r"\s*([A-Za-z/]{1,20}) ([0-9][^\s]{0,30})\s*$", result.text.split("\n", 1)[0])
        if match is None:
            raise SchedulerUnavailable("it tells no version")
        return f"{match[1]} {match[2]}"


_POSITIONS = Traits(
    **{
        **{name: getattr(GridEngineDialect.traits, name) for name in Traits.__struct_fields__},
        "positions": True,
        "index_offset": 1,
    }
)


def _accepted(number: str, submission: Submission) -> Accepted:
    if submission.kind is Kind.SINGLE:
        return Accepted((number,))
    shown: Iterable[int] = submission.indices
    if sends_positions(submission):
        shown = range(1, len(submission.indices) + 1)
    return Accepted(tuple(f"{number}.{index}" for index in shown), number)


def _numbers(native_ids: Collection[str]) -> list[str]:
    return sorted({native_id.partition(".")[0] for native_id in native_ids if _ID.fullmatch(native_id)})


_COMMANDS = {
    Action.CANCEL: ("qdel",),
    Action.HOLD: ("qhold", "-h", "u"),
    Action.RELEASE: ("qrls", "-h", "u"),
    Action.SUSPEND: ("qmod", "-sj"),
    Action.RESUME: ("qmod", "-usj"),
}


def _control(action: Action, words: Sequence[str]) -> Command:
    if action is Action.REQUEUE:
        return Command(argv=("sh", "-c", _REQUEUE, "sh", *words), environment=_ENVIRONMENT)
    return Command(argv=(*_COMMANDS[action], *words), environment=_ENVIRONMENT)


def _words(native_ids: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Jobs as the commands take them, tasks that follow each other as ranges: ``43.5-7:1``; each with its ids."""
    tasks: dict[str, list[int]] = {}
    found: list[tuple[str, list[str]]] = []
    for native_id in dict.fromkeys(native_ids):
        number, _, task = native_id.partition(".")
        if _ID.fullmatch(native_id) is None:
            continue  # the name of a job, or an option: never given to a command
        if task:
            tasks.setdefault(number, []).append(int(task))
        else:
            found.append((native_id, [native_id]))
    for number, indices in tasks.items():
        indices.sort()
        at = 0
        while at < len(indices):
            end = at
            step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
            while end + 1 < len(indices) and indices[end + 1] - indices[end] == step:
                end += 1
            if end - at < 2:
                end = at
            word = f"{number}.{indices[at]}" if end == at else f"{number}.{indices[at]}-{indices[end]}:{step}"
            found.append((word, [f"{number}.{index}" for index in indices[at : end + 1]]))
            at = end + 1
    return found


def _said(line: str) -> tuple[type[JobyardError] | None, str, list[str] | None] | None:
    """What a line says, of which job, and of which of its tasks (None: of all, or it has none). None: it is no answer."""
    for pattern, error in _LINES:
        if match := pattern.search(line):
            found = match.groupdict()
            if found.get("tasks") is not None:
                return error, found["job"], [str(index) for index in queue.task_numbers(found["tasks"])]
            return error, found["job"], [found["task"]] if found.get("task") is not None else None
    return None


def _error(action: Action, native_id: str, error: type[JobyardError] | None, line: str) -> JobyardError | None:
    if error is UnknownJob and action is Action.CANCEL:
        error = WrongState  # it forgets jobs as they end: there is nothing left to cancel
    return None if error is None else error(f"gridengine cannot {action} job {native_id}: {line}")
