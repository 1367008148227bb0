"""What each scheduler was seen to say of each kind of ending, and the verdict that it must lead to.

The rows are those of the measurements on real systems: who knows what, which words are ambiguous, which are missing.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from engine.reconciling import (
    ABSENT,
    CANCELLED,
    DONE,
    FAILED,
    LOOKED,
    QUEUED,
    RERUNNABLE,
    RUNNING,
    T0,
    TERMS,
    UNACCOUNTED,
    Step,
    accepted,
    account,
    act,
    begin,
    end,
    over,
    play,
    refused,
    row,
)
from jobyard.evidence import Terms
from jobyard.job import Cause, JobState


class Case(NamedTuple):
    name: str
    steps: list[Step]
    state: JobState
    cause: Cause
    how: int | str | None = None  # exit code, or signal
    aborted: bool = False
    terms: Terms = TERMS
    attempts: int = 1


NO_ACCOUNTING = Terms(submitted_at=T0, accounting=False)
EXITED, GONE = Cause.EXITED, Cause.CANCELLED
RUN = [accepted(), row(QUEUED), begin()]
TERM = end("SIGTERM", "SIGTERM")  # an end receipt of a command that TERM ended

# Any scheduler: the receipt alone --------------------------------------------------------------------------------------
ALONE = [
    Case("exit 0", [*RUN, end(0)], DONE, EXITED, 0),
    Case("exit 3", [*RUN, end(3)], FAILED, EXITED, 3),
    *[Case(f"exit {code}", [*RUN, end(code)], FAILED, EXITED, code) for code in (99, 100, 125, 126, 127, 128, 137, 255)],
    Case("own SEGV", [*RUN, end("SIGSEGV", core=True)], FAILED, EXITED, "SIGSEGV"),
    Case(
        "missing program", [*RUN, end(None, cause=Cause.NOT_STARTED, aborted=True)], FAILED, Cause.NOT_STARTED, None, aborted=True
    ),
    Case("stage-in failed", [*RUN, end(None, cause=Cause.STAGING, aborted=True)], FAILED, Cause.STAGING, None, aborted=True),
    Case("stage-out failed after exit 0", [*RUN, end(0, cause=Cause.STAGING)], FAILED, Cause.STAGING, 0),
    Case("finished before the cancel came", [*RUN, act("cancel"), end(0), over(GONE)], DONE, EXITED, 0),
    Case("failed before the cancel came", [*RUN, act("cancel"), end(7), over(GONE)], FAILED, EXITED, 7),
    Case("nobody saw it run", [accepted(), end(0)], DONE, EXITED, 0),
]

# Slurm: numbers its runs, says what cut a job short; sacct's exit code is wrong up to 24.11 -----------------------------
SLURM = [
    Case("own KILL", [*RUN, end("SIGKILL"), over(EXITED, "SIGKILL", attempt=1)], FAILED, EXITED, "SIGKILL"),
    Case("own USR1, caught", [*RUN, end(4, "SIGUSR1"), over(EXITED, 4, attempt=1)], FAILED, EXITED, 4),
    Case("sacct says 9:0 for exit 137", [*RUN, end(137, "SIGUSR1"), account(EXITED, 9, attempt=1)], FAILED, EXITED, 137),
    Case("cancelled running", [*RUN, TERM, over(GONE, 0, attempt=1)], CANCELLED, GONE, "SIGTERM"),
    Case("cancelled, traps TERM, exits 7", [*RUN, act("cancel"), end(7, "SIGTERM"), over(GONE, 0, attempt=1)], CANCELLED, GONE, 7),
    Case("cancelled, traps TERM, exits 0", [*RUN, act("cancel"), end(0, "SIGTERM"), over(GONE, 0, attempt=1)], CANCELLED, GONE, 0),
    Case("cancelled in the queue", [accepted(), row(QUEUED), over(GONE), LOOKED], CANCELLED, GONE, None, aborted=True),
    Case("walltime", [*RUN, TERM, over(Cause.WALLTIME, attempt=1)], FAILED, Cause.WALLTIME, "SIGTERM"),
    Case("walltime, traps TERM, exits 0", [*RUN, end(0, "SIGTERM"), over(Cause.WALLTIME)], FAILED, Cause.WALLTIME, 0),
    Case("walltime, killed at once", [*RUN, over(Cause.WALLTIME, attempt=1), LOOKED], FAILED, Cause.WALLTIME),
    Case("memory, the shepherd outlived it", [*RUN, end("SIGKILL"), over(Cause.MEMORY, 125)], FAILED, Cause.MEMORY, "SIGKILL"),
    Case("memory, the shepherd died too", [*RUN, over(Cause.MEMORY, "SIGKILL"), LOOKED], FAILED, Cause.MEMORY, "SIGKILL"),
    Case("node failed", [*RUN, over(Cause.NODE), LOOKED], FAILED, Cause.NODE),
    Case("preempted", [*RUN, TERM, over(Cause.PREEMPTED)], FAILED, Cause.PREEMPTED, "SIGTERM"),
    Case("afterok can never be", [accepted(), over(Cause.DEPENDENCY), LOOKED], FAILED, Cause.DEPENDENCY, None, aborted=True),
    Case("no python on the node", [accepted(), over(EXITED, 127), LOOKED], FAILED, Cause.SHEPHERD, None, aborted=True),
    Case("folder not there", [accepted(), over(EXITED, 126, attempt=1), 11.0], FAILED, Cause.SHEPHERD, None, aborted=True),
    Case("the command's own 127", [*RUN, end(127, "SIGUSR2"), over(EXITED, 127, attempt=1)], FAILED, EXITED, 127),
    Case("shepherd killed alone", [*RUN, over(EXITED, "SIGKILL"), LOOKED], FAILED, EXITED, "SIGKILL"),
    Case(
        "requeued though it must not: the second run is refused, and COMPLETED",
        [*RUN, TERM, row(QUEUED, attempt=2), refused(), over(EXITED, 0, attempt=2), LOOKED],
        FAILED,
        Cause.REQUEUED,
        "SIGTERM",
    ),
    Case(
        "the same, and the refusal is read last",
        [*RUN, TERM, over(EXITED, 0), refused(), LOOKED],
        FAILED,
        Cause.REQUEUED,
        "SIGTERM",
    ),
    Case(
        "requeued by a preemption, the second run refused",
        [*RUN, row(None, attempt=1, ending=end(None, cause=Cause.PREEMPTED).ending), refused(), over(EXITED, 0, attempt=2), LOOKED],
        FAILED,
        Cause.REQUEUED,
    ),
    Case("the begin receipt is read after the word", [accepted(), over(Cause.WALLTIME), begin(), LOOKED], FAILED, Cause.WALLTIME),
    Case(
        "rerunnable: the first run's receipt is read after the second began",
        [*RUN, begin(2), end(0, "SIGTERM"), over(Cause.WALLTIME, attempt=2), LOOKED],
        FAILED,
        Cause.WALLTIME,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "rerunnable: the first run's clean receipt is read after the second began",
        [*RUN, begin(2), end(0), over(Cause.WALLTIME, attempt=2), LOOKED],
        FAILED,
        Cause.WALLTIME,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "requeued by a node failure, the second run refused",
        [*RUN, row(None, attempt=1, ending=end(None, cause=Cause.NODE).ending), refused(), over(EXITED, 0, attempt=2), LOOKED],
        FAILED,
        Cause.NODE,
    ),
    Case(
        "the second run's refusal not seen, only its number",
        [*RUN, over(EXITED, 0, attempt=2), LOOKED],
        FAILED,
        Cause.REQUEUED,
    ),
    Case(
        "rerunnable: launch failed once, before the shepherd",
        [accepted(), begin(), TERM, over(EXITED, 0, attempt=2, began=T0 + 9.5), LOOKED],
        FAILED,
        EXITED,
        "SIGTERM",
        terms=RERUNNABLE,
    ),
    Case(
        "rerunnable: the second run dies before the shepherd, as its times show",
        [*RUN, end(0, "SIGTERM"), over(EXITED, 125, attempt=2, began=T0 + 70), LOOKED],
        FAILED,
        EXITED,
        125,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "a second run that was refused, as its times show",
        [*RUN, end(0, "SIGTERM"), over(EXITED, 0, attempt=2, began=T0 + 70), LOOKED],
        FAILED,
        Cause.REQUEUED,
        0,
    ),
    Case(
        "the second run's refusal failed too",
        [*RUN, over(EXITED, 125, attempt=2), LOOKED],
        FAILED,
        Cause.REQUEUED,
    ),
    Case(
        "a second run, exit 0, and no receipt of any",
        [accepted(), over(EXITED, 0, attempt=2), LOOKED],
        FAILED,
        Cause.REQUEUED,
        None,
        aborted=True,
    ),
    Case(
        "a second run, no python there either",
        [accepted(), over(EXITED, 127, attempt=2), LOOKED],
        FAILED,
        Cause.SHEPHERD,
        None,
        aborted=True,
    ),
    Case(
        "launch failed once, then walltime",
        [*RUN, TERM, over(Cause.WALLTIME, attempt=2)],
        FAILED,
        Cause.WALLTIME,
        "SIGTERM",
    ),
    Case(
        "rerunnable, cut short in its only run: nothing more is waited for",
        [*RUN, TERM, over(Cause.WALLTIME, attempt=1)],
        FAILED,
        Cause.WALLTIME,
        "SIGTERM",
        terms=RERUNNABLE,
    ),
    Case(
        "launch failed once, before the shepherd: the second run is our first",
        [accepted(), begin(), TERM, over(EXITED, 0, attempt=2, began=T0 + 9.5)],
        FAILED,
        EXITED,
        "SIGTERM",
    ),
    Case(
        "rerunnable: a stale receipt, then a good run",
        [*RUN, end(0, "SIGTERM"), row(QUEUED, attempt=2), row(RUNNING, attempt=2), begin(2), end(3, attempt=2)],
        FAILED,
        EXITED,
        3,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "rerunnable: the second run dies before the shepherd; the first one's exit 0 is not the job's",
        [*RUN, end(0, "SIGTERM"), row(QUEUED, attempt=2), over(EXITED, 125, attempt=2), LOOKED],
        FAILED,
        EXITED,
        125,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "accounting knows only the first run while the second waits",
        [*RUN, TERM, row(QUEUED, attempt=2), account(Cause.PREEMPTED, attempt=1), begin(2), end(0, attempt=2)],
        DONE,
        EXITED,
        0,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case("left the queue; accounting knows", [*RUN, ABSENT, LOOKED, account(Cause.WALLTIME)], FAILED, Cause.WALLTIME),
    Case("left the queue; receipt and accounting", [*RUN, TERM, ABSENT, account(GONE)], CANCELLED, GONE, "SIGTERM"),
]

# Grid Engine: KILL at once, 137 for a cancel as for an own KILL, no record of jobs that never ran ------------------------
GRID_ENGINE = [
    Case("own KILL", [*RUN, end("SIGKILL"), ABSENT, account(EXITED, 137), LOOKED], FAILED, EXITED, "SIGKILL"),
    Case("cancelled by us, running", [*RUN, act("cancel"), ABSENT, account(EXITED, "SIGKILL"), LOOKED], CANCELLED, GONE, "SIGKILL"),
    Case("cancelled by us, 137", [*RUN, act("cancel"), ABSENT, account(EXITED, 137), 11.0], CANCELLED, GONE, 137),
    Case("cancelled by another: an own KILL", [*RUN, ABSENT, account(EXITED, "SIGKILL"), LOOKED], FAILED, EXITED, "SIGKILL"),
    Case(
        "cancelled by us in the queue: no record", [accepted(), act("cancel"), ABSENT, LOOKED], CANCELLED, GONE, None, aborted=True
    ),
    Case("walltime: failed 37", [*RUN, ABSENT, account(Cause.WALLTIME, "SIGKILL"), LOOKED], FAILED, Cause.WALLTIME, "SIGKILL"),
    Case("h_vmem: exit 1, no trace", [*RUN, end(1)], FAILED, EXITED, 1),
    Case(
        "shown as running, and then it could not be started",
        [accepted(), row(RUNNING), over(Cause.NOT_STARTED, aborted=True), LOOKED],
        FAILED,
        Cause.NOT_STARTED,
        None,
        aborted=True,
    ),
    Case("exit 99, mapped to 1", [*RUN, end(99, "SIGUSR1"), ABSENT, account(EXITED, 1), LOOKED], FAILED, EXITED, 99),
    Case(
        "rescheduled by KILL, no receipt, then good",
        [*RUN, row(QUEUED, attempt=2), begin(2), end(0, attempt=2)],
        DONE,
        EXITED,
        0,
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "rescheduled, and the first process was kept: the record of a second run begins with it",
        [*RUN, end("SIGKILL"), ABSENT, account(EXITED, "SIGKILL", attempt=2, began=T0 + 11), LOOKED],
        FAILED,
        EXITED,
        "SIGKILL",
        terms=RERUNNABLE,
    ),
    Case(
        "rescheduled and killed, and there was no second run",
        [*RUN, row(RUNNING), ABSENT, account(EXITED, "SIGKILL", attempt=2, began=T0 + 13), LOOKED],
        FAILED,
        EXITED,
        "SIGKILL",
        terms=RERUNNABLE,
        attempts=2,
    ),
    Case(
        "uncounted rerun: the first run's exit 0 is not the killed second one's",
        [*RUN, end(0, "SIGTERM"), ABSENT, account(EXITED, "SIGKILL"), LOOKED],
        FAILED,
        EXITED,
        "SIGKILL",
        terms=RERUNNABLE,
    ),
    Case(
        "uncounted, rerunnable, cancelled by us: exits 0 on TERM, its group is killed",
        [*RUN, act("cancel"), end(0, "SIGTERM"), ABSENT, account(EXITED, "SIGKILL"), LOOKED],
        CANCELLED,
        GONE,
        0,
        terms=RERUNNABLE,
    ),
    Case(
        "cancelled by us, killed after its exit 0, a signal noted",
        [*RUN, act("cancel"), end(0, "SIGUSR1"), ABSENT, account(EXITED, "SIGKILL"), LOOKED],
        CANCELLED,
        GONE,
        0,
    ),
    Case(
        "cancelled by us, through before that, a signal noted",
        [*RUN, act("cancel"), end(0, "SIGUSR1"), ABSENT, account(EXITED, 0), LOOKED],
        DONE,
        EXITED,
        0,
    ),
    Case(
        "cancelled by us, exit 0 on TERM, the scheduler says exit 0",
        [*RUN, act("cancel"), end(0, "SIGTERM"), ABSENT, account(EXITED, 0), LOOKED],
        CANCELLED,
        GONE,
        0,
    ),
    Case(
        "accounting off, cancelled by us",
        [*RUN, act("cancel"), ABSENT, LOOKED],
        CANCELLED,
        GONE,
        terms=NO_ACCOUNTING,
    ),
    Case(
        "accounting off, ended by a signal of nobody knows whom",
        [*RUN, TERM, ABSENT, LOOKED, 30.0, ABSENT],
        FAILED,
        Cause.UNKNOWN,
        "SIGTERM",
        terms=NO_ACCOUNTING,
    ),
    Case(
        "accounting off, a signal was noted but it exited with 0",
        [*RUN, end(0, "SIGUSR1"), ABSENT, LOOKED, 30.0, ABSENT],
        DONE,
        EXITED,
        0,
        terms=NO_ACCOUNTING,
    ),
]

# HTCondor: cannot forbid a second run; walltime is a hold -----------------------------------------------------------------
HTCONDOR = [
    Case("own SEGV with core", [*RUN, end("SIGSEGV", core=True)], FAILED, EXITED, "SIGSEGV"),
    Case("removed by another", [*RUN, TERM, over(GONE)], CANCELLED, GONE, "SIGTERM"),
    Case("removed by us, exits 5 on TERM", [*RUN, act("cancel"), end(5, "SIGTERM"), over(GONE)], CANCELLED, GONE, 5),
    Case("removed, in the state's word only", [*RUN, TERM, over(Cause.UNKNOWN, state=CANCELLED)], CANCELLED, GONE, "SIGTERM"),
    Case("removed before it ran", [accepted(), over(GONE), LOOKED], CANCELLED, GONE, None, aborted=True),
    Case("walltime", [*RUN, TERM, over(Cause.WALLTIME)], FAILED, Cause.WALLTIME, "SIGTERM"),
    Case(
        "vacated, run again, refused, exit 0",
        [*RUN, end(5, "SIGTERM"), row(QUEUED, attempt=2), refused(), over(EXITED, 0, attempt=2)],
        FAILED,
        Cause.REQUEUED,
        5,
    ),
    Case(
        "the pool was started anew before the command began: nobody knows an exit code",
        [
            accepted(),
            row(RUNNING, attempt=1),
            row(QUEUED, attempt=2),
            ABSENT,
            account(Cause.REQUEUED, attempt=2, began=T0 + 12),
            LOOKED,
        ],
        FAILED,
        Cause.REQUEUED,
    ),
    Case(
        "vacated, and cancelled by us while it waited to run again",
        [*RUN, end(5, "SIGTERM"), row(QUEUED, attempt=2), act("cancel"), over(GONE, attempt=2)],
        CANCELLED,
        GONE,
        5,
    ),
]

# OpenPBS: 128+n for signals and for exits; -29 walltime; 271 and substate 91 cancelled -------------------------------------
PBS = [
    Case("own KILL shows as 137", [*RUN, end("SIGKILL"), over(EXITED, 137, attempt=1)], FAILED, EXITED, "SIGKILL"),
    Case("exit 137", [*RUN, end(137, "SIGUSR1"), over(EXITED, 137, attempt=1)], FAILED, EXITED, 137),
    Case("cancelled", [*RUN, TERM, over(GONE, attempt=1)], CANCELLED, GONE, "SIGTERM"),
    Case("the TERM came after the command's end", [*RUN, end("SIGTERM"), over(GONE, attempt=1)], CANCELLED, GONE, "SIGTERM"),
    Case("walltime", [*RUN, TERM, over(Cause.WALLTIME, attempt=1)], FAILED, Cause.WALLTIME, "SIGTERM"),
    Case(
        "qrerun: signal 15 in full, then run 2",
        [*RUN, TERM, row(RUNNING, attempt=2), begin(2, at=T0 + 40), end(0, attempt=2, began=T0 + 40, ended=T0 + 50)],
        DONE,
        EXITED,
        0,
        terms=RERUNNABLE,
        attempts=2,
    ),
]

# OAR: KILL, and no code; everything is in the events ------------------------------------------------------------------------
OAR = [
    Case("cancelled by another (event)", [*RUN, over(GONE), LOOKED], CANCELLED, GONE),
    Case(
        "cancelled by us, event not understood", [*RUN, act("cancel"), over(Cause.UNKNOWN), LOOKED, account(None)], CANCELLED, GONE
    ),
    Case("walltime (event)", [*RUN, over(Cause.WALLTIME), LOOKED], FAILED, Cause.WALLTIME),
    Case("launch failed: node", [accepted(), over(Cause.NODE), LOOKED], FAILED, Cause.NODE, None, aborted=True),
    Case("own KILL", [*RUN, end("SIGKILL"), over(EXITED, "SIGKILL"), LOOKED], FAILED, EXITED, "SIGKILL"),
    Case("Error, and nothing more", [*RUN, over(Cause.UNKNOWN), LOOKED, account(None)], FAILED, Cause.UNKNOWN),
]

# Flux: 128+n; cancel is CANCELED; no reruns ----------------------------------------------------------------------------------
FLUX = [
    Case("cancelled running", [*RUN, TERM, over(GONE)], CANCELLED, GONE, "SIGTERM"),
    Case("cancelled in the queue", [accepted(), over(GONE), LOOKED], CANCELLED, GONE, None, aborted=True),
    Case("walltime: ALRM", [*RUN, end("SIGALRM", "SIGALRM"), over(Cause.WALLTIME)], FAILED, Cause.WALLTIME, "SIGALRM"),
    Case("own TERM shows as 143", [*RUN, end("SIGTERM"), over(EXITED, 143), LOOKED], FAILED, EXITED, "SIGTERM"),
]

# What no scheduler says ---------------------------------------------------------------------------------------------------------
WAIT: list[Step] = [40.0, ABSENT, 40.0, ABSENT, 40.0, ABSENT]
LOST = [
    Case("no receipt, no record", [*RUN, ABSENT, LOOKED, *WAIT, UNACCOUNTED], FAILED, Cause.LOST),
    Case("no accounting", [*RUN, ABSENT, LOOKED, *WAIT], FAILED, Cause.LOST, terms=NO_ACCOUNTING),
    Case("never listed", [accepted(), ABSENT, *WAIT, UNACCOUNTED], FAILED, Cause.LOST, None, aborted=True),
    Case("the receipt came in the grace", [*RUN, ABSENT, LOOKED, 40.0, ABSENT, end(0)], DONE, EXITED, 0),
    Case("accounting came in the grace", [*RUN, ABSENT, LOOKED, 40.0, ABSENT, account(EXITED, 3)], FAILED, EXITED, 3),
    Case("accounting alone says exit 0", [*RUN, ABSENT, LOOKED, account(EXITED, 0)], DONE, EXITED, 0),
    Case("refused, then gone", [*RUN, TERM, refused(), ABSENT, LOOKED, 31.0, UNACCOUNTED], FAILED, Cause.REQUEUED, "SIGTERM"),
    Case(
        "a second copy of the submission, refused, says nothing of the job",
        [accepted("9"), over(EXITED, 0, native_id="9"), begin(), refused("9"), LOOKED, end(4)],
        FAILED,
        EXITED,
        4,
    ),
    Case(
        "killed between claim and begin receipt, the rerun refused",
        [accepted(), refused(holder="7"), over(EXITED, 0), LOOKED],
        FAILED,
        Cause.REQUEUED,
        None,
        aborted=True,
    ),
]

GROUPS = {
    "alone": ALONE,
    "slurm": SLURM,
    "gridengine": GRID_ENGINE,
    "htcondor": HTCONDOR,
    "pbs": PBS,
    "oar": OAR,
    "flux": FLUX,
    "lost": LOST,
}
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in GROUPS.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_the_verdict(case: Case) -> None:
    facts, history = play(case.steps, case.terms)
    ending = facts.ending
    assert ending is not None, facts.seen
    how = ending.exit_code if ending.exit_code is not None else ending.signal
    assert (ending.state, ending.cause, how, ending.aborted) == (case.state, case.cause, case.how, case.aborted)
    assert ending.attempts == case.attempts
    assert facts.state is ending.state is history[-1].state
    assert history[-1].ending == ending
    assert [one.state.final for one in history].count(True) == 1


@pytest.mark.parametrize("case", CASES)
def test_no_verdict_comes_before_its_last_piece_of_evidence(case: Case) -> None:
    """Cut off the last step, and the job is not over: each case is as short as it can be, or ends with what is ignored."""
    facts, _ = play(case.steps[:-1], case.terms)
    if facts.state.final:
        last = case.steps[-1]
        assert not isinstance(last, float)
        again, made = play([last], facts=facts)
        assert again == facts
        assert made == []
        assert facts.ending == play(case.steps, case.terms)[0].ending


def test_the_usage_of_a_provisional_receipt_is_filled_by_the_record() -> None:
    facts, _ = play([*RUN, TERM, over(GONE)])
    assert facts.ending is not None
    assert facts.ending.usage.wall_s == 10.0
    assert facts.ending.usage.native == {"record": "yes"}
    assert (facts.ending.began_at, facts.ending.ended_at, facts.ending.host) == (T0 + 10, T0 + 20, "node1")
    assert facts.ending.submitted_at == T0
