"""The journal by its interface: what is written comes back, is found, taken, pruned, and told to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.journaling import LOGIN, ODD, TERMS, Clock, fill, finish, intent, observe, submit
from engine.reconciling import ABSENT, CANCELLED, DONE, HELD, QUEUED, RUNNING, T0, account, begin, end, row
from jobyard.errors import JournalError, UnknownJob
from jobyard.evidence import Terms
from jobyard.job import By, Cause, JobDescription, JobState
from jobyard.journal import Change, Journal
from jobyard.journal_changes import FIRST, LAST, MOST_OBSERVATIONS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state" / "journal.db", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def session(journal: Journal) -> str:
    return journal.create_session("slurm", LOGIN).id


# Sessions ---------------------------------------------------------------------------------------------------------------


def test_a_session_is_there_for_others(journal: Journal, clock: Clock) -> None:
    made = journal.create_session(f"site:{ODD}", LOGIN)
    other = Journal(journal.path)
    assert other.session(made.id) == made
    assert other.sessions() == [made]
    assert made.created == clock.now
    other.close()


def test_an_unknown_session_is_named(journal: Journal) -> None:
    with pytest.raises(UnknownJob, match="no session 'feed'"):
        journal.session("feed")
    with pytest.raises(UnknownJob, match="no session 'feed'"):
        journal.intend([intent("feed")])
    assert journal.unfinished() == []


# Submissions --------------------------------------------------------------------------------------------------------------


def test_an_intent_is_no_job_until_it_is_accepted(journal: Journal, session: str) -> None:
    keys = journal.intend([intent(session)])[0]
    assert list(keys) == [1]
    assert journal.states(session) == []
    assert journal.entries(session) == []
    assert journal.unfinished(session) == []
    assert journal.find(session, "a" * 32) == []
    found = journal.submission("a" * 32)
    assert (found.accepted, found.jobs, found.folder, found.terms) == (False, 1, f"/work/aa/{'a' * 32}", TERMS)
    assert journal.accepted("a" * 32, ["7"])
    assert journal.states(session) == [(1, JobState.NEW)]


def test_accepting_makes_the_transitions_of_all_jobs(journal: Journal, session: str) -> None:
    keys = submit(journal, session, ids=["7_0", "7_1"], kind="like")
    assert journal.states(session) == [(key, QUEUED) for key in keys]
    for one, native_id in zip(journal.unfinished(session), ["7_0", "7_1"], strict=True):
        assert one.facts.native_id == native_id
        assert one.facts.at == T0 + 1
        assert [moved.state for moved in journal.history(one.key)] == [QUEUED]
    assert [one.token for one in journal.unfinished()] == ["a" * 32 + ".0", "a" * 32 + ".1"]


def test_accepting_twice_changes_nothing(journal: Journal, session: str) -> None:
    (key,) = submit(journal, session)
    assert not journal.accepted("a" * 32, ["8"])
    assert journal.rows([key])[0].facts.native_id == "7"
    journal.refused("a" * 32)
    assert journal.states(session) == [(key, QUEUED)]


def test_as_many_native_ids_as_jobs(journal: Journal, session: str) -> None:
    journal.intend([intent(session, jobs=2)])
    with pytest.raises(ValueError, match="1 native ids for 2 jobs"):
        journal.accepted("a" * 32, ["7"])
    assert not journal.submission("a" * 32).accepted


def test_what_was_refused_leaves_nothing_and_its_keys_are_not_given_again(journal: Journal, session: str) -> None:
    first = journal.intend([intent(session, jobs=3)])[0]
    journal.refused("a" * 32)
    with pytest.raises(UnknownJob):
        journal.submission("a" * 32)
    with pytest.raises(UnknownJob):
        journal.accepted("a" * 32, ["7", "8", "9"])
    second = journal.intend([intent(session)])[0]
    assert second.start == first.stop
    assert journal.stale_intents() == []


def test_several_intents_are_one_commit_and_all_or_none(journal: Journal, session: str) -> None:
    before = journal.commits
    spans = journal.intend([intent(session, token * 32, jobs=2) for token in "abc"])
    assert journal.commits == before + 1
    assert [key for span in spans for key in span] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(JournalError):  # a token that is there already
        journal.intend([intent(session, "d" * 32), intent(session, "a" * 32)])
    with pytest.raises(UnknownJob):
        journal.submission("d" * 32)


def test_descriptions_come_back_exactly(journal: Journal, session: str) -> None:
    base = JobDescription(argv=("/bin/echo", ODD), environment={"A": ODD, "B": "\U0001f600"}, name=ODD)
    keys = submit(journal, session, ids=["1", "2"], kind="like", description=base, changes=[{}, {"name": None, "argv": ["/x/y"]}])
    assert journal.description(keys[0]) == base
    assert journal.description(keys[1]) == JobDescription(argv=("/x/y",), environment=base.environment)
    assert [one.name for one in journal.entries(session)] == [ODD, "y"]


def test_equal_descriptions_are_kept_once_and_go_with_the_last(journal: Journal, session: str) -> None:
    keys = [submit(journal, session, token * 32)[0] for token in "abc"]
    assert _count(journal, "descriptions") == 1
    finish(journal, keys)
    journal.remove(keys[:2])
    assert _count(journal, "descriptions") == 1
    assert journal.description(keys[2]).argv == ("/bin/true",)
    journal.remove(keys[2:])
    assert [_count(journal, table) for table in ("descriptions", "submissions", "jobs", "transitions", "observations")] == [0] * 5


def _count(journal: Journal, table: str) -> int:
    with journal._store.reading() as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_foreign_job_is_followed_once(journal: Journal, session: str) -> None:
    key, new = journal.adopt(session, "1234", "theirs", Terms(receipts=False))
    assert (journal.adopt(session, "1234", "theirs", Terms(receipts=False)), new) == ((key, False), True)
    (entry,) = journal.entries(session)
    assert (entry.foreign, entry.name, entry.native_id, entry.state) == (True, "theirs", "1234", JobState.NEW)
    with pytest.raises(UnknownJob, match="not submitted here"):
        journal.description(key)
    assert not journal.unfinished()[0].facts.terms.receipts


# Repair ---------------------------------------------------------------------------------------------------------------------


def test_an_intent_is_stale_only_when_its_owner_gave_no_sign(journal: Journal, session: str, clock: Clock) -> None:
    journal.intend([intent(session)])
    other = Journal(journal.path, clock=clock)
    assert journal.stale_intents() == other.stale_intents() == []
    clock.now += 119
    assert other.stale_intents() == []
    assert not other.claim_intent("a" * 32)
    journal.renew()
    clock.now += 119
    assert other.stale_intents() == []
    clock.now += 2
    assert [one.token for one in other.stale_intents(LOGIN)] == ["a" * 32]
    assert other.stale_intents("elsewhere") == []
    assert other.claim_intent("a" * 32)
    assert journal.stale_intents() == []  # the repairer lives
    assert not journal.claim_intent("a" * 32)
    assert other.accepted("a" * 32, ["7"])
    assert not other.claim_intent("a" * 32)
    other.close()


# States ---------------------------------------------------------------------------------------------------------------------


def test_what_is_recorded_comes_back(journal: Journal, session: str) -> None:
    (key,) = submit(journal, session)
    assert not observe(journal, {key: [row(HELD, by=By.BOTH, reason=ODD), begin(), row(RUNNING)]})
    (one,) = journal.unfinished()
    assert (one.facts.state, one.facts.seen.begun, one.facts.seen.ran) == (RUNNING, 1, True)
    assert not observe(journal, {key: [end(3)]})
    assert journal.unfinished() == []
    (entry,) = journal.entries(session)
    assert entry.ending is not None
    assert (entry.ending.exit_code, entry.ending.usage.user_s, entry.state) == (3, 0.5, JobState.FAILED)
    history = journal.history(key)
    assert [(moved.state, moved.by, moved.reason) for moved in history] == [
        (QUEUED, None, None),
        (HELD, By.BOTH, ODD),
        (RUNNING, None, None),
        (JobState.FAILED, None, None),
    ]
    assert history[-1].ending == entry.ending


def test_evidence_stands_in_the_order_in_which_it_came(journal: Journal, session: str) -> None:
    (key,) = submit(journal, session)
    observe(journal, {key: [begin()]})
    observe(journal, {key: [end("SIGTERM", "SIGTERM"), row(RUNNING)]})
    observe(journal, {key: [ABSENT]})
    observe(journal, {key: [account(Cause.CANCELLED)]})
    lines = [one.text for one in journal.evidence(key)]
    assert lines == [
        "the scheduler accepted the job as 7",
        "→ queued",
        "the node: the job began as 7",
        "→ running",
        "the node: the command was ended by SIGTERM, after 10 s; signals noted: SIGTERM; not final alone",
        "the queue: running",
        "the queue does not list the job",
        "accounting: cancelled, over: ended, cause: cancelled",
        "→ cancelled: was ended by SIGTERM, cause: cancelled, after 10 s",
    ]


def test_a_change_that_was_derived_from_old_facts_is_not_written(journal: Journal, session: str) -> None:
    """Two processes saw the same end differently: the second derives again, and finds it final."""
    (key,) = submit(journal, session)
    (old,) = journal.rows([key])
    finish(journal, [key])
    late = Change(key=key, version=old.version, facts=old.facts)
    missed = journal.record([late])[key]
    assert missed is not None
    assert missed.facts.state is DONE
    assert [moved.state for moved in journal.history(key)] == [QUEUED, RUNNING, DONE]
    journal.remove([key])
    assert journal.record([late]) == {key: None}


def test_observations_of_one_job_are_bounded(journal: Journal, session: str) -> None:
    (key,) = submit(journal, session)
    for number in range(MOST_OBSERVATIONS + 10):
        observe(journal, {key: [row(QUEUED, reason=f"reason {number}")]})
    seen = [one.observation.reason for one in journal.evidence(key)[1:] if one.observation is not None]
    assert FIRST + LAST <= len(seen) <= MOST_OBSERVATIONS
    assert seen[:FIRST] == [f"reason {number}" for number in range(FIRST)]
    assert seen[-1] == f"reason {MOST_OBSERVATIONS + 9}"


def test_unfinished_jobs_by_session_and_by_login(journal: Journal, session: str) -> None:
    other = journal.create_session("slurm", LOGIN).id
    third = journal.create_session("oar", "oar@there").id
    keys = [submit(journal, one, token * 32)[0] for one, token in ((session, "a"), (other, "b"), (third, "c"))]
    assert [one.key for one in journal.unfinished(session)] == keys[:1]
    assert [one.key for one in journal.unfinished(login=LOGIN)] == keys[:2]
    assert [one.key for one in journal.unfinished()] == keys
    assert journal.unfinished("feed") == []


# Looking up -------------------------------------------------------------------------------------------------------------------


def test_jobs_are_found_by_any_of_their_names(journal: Journal, session: str) -> None:
    (single,) = submit(journal, session)
    first = submit(journal, session, "b" * 32, ["8_1", "8_3"], kind="array", array="e" * 32, indices=[1, 3])
    second = submit(journal, session, "c" * 32, ["9_5"], kind="array", array="e" * 32, indices=[5])
    assert journal.find(session, "a" * 32) == journal.find(session, "7") == [single]
    assert journal.find(session, "e" * 32) == [*first, *second]
    assert journal.find(session, "b" * 32) == first
    assert journal.find(session, "b" * 32 + ".1") == journal.find(session, "8_3") == [first[1]]
    assert journal.find(session, "8") == first
    for wrong in ("b" * 32 + ".2", "b" * 32 + ".-1", "b" * 32 + ".99999999999999999999", "a" * 32 + ".0", "x", "", ".1", ODD):
        assert journal.find(session, wrong) == []
    other = journal.create_session("slurm", LOGIN).id
    assert journal.find(other, "7") == []
    entries = journal.entries(session)
    assert [(one.array, one.index) for one in entries[1:]] == [("e" * 32, 1), ("e" * 32, 3), ("e" * 32, 5)]


def test_an_id_that_came_round_is_the_newest_jobs(journal: Journal, session: str) -> None:
    (old,) = submit(journal, session)
    finish(journal, [old])
    (new,) = submit(journal, session, "b" * 32)
    assert journal.find(session, "7") == [new]


def test_entries_by_keys_and_the_newest(journal: Journal, session: str) -> None:
    keys = submit(journal, session, ids=[str(n) for n in range(1200)], kind="like")
    assert [one.key for one in journal.entries(session, reversed(keys))] == keys
    assert [one.key for one in journal.entries(session, newest=3)] == keys[-3:]
    assert [one.key for one in journal.entries(session, keys[:10], newest=3)] == keys[7:10]
    assert journal.entries(session, newest=0) == journal.entries(session, []) == journal.entries(session, [99999]) == []


# Reaping, removing, pruning -----------------------------------------------------------------------------------------------------


def test_each_finished_job_is_taken_once(journal: Journal, session: str) -> None:
    keys = submit(journal, session, ids=["1", "2", "3"], kind="like")
    assert journal.take(session) is None
    finish(journal, keys[:2])
    other = Journal(journal.path)
    assert [journal.take(session), other.take(session), journal.take(session)] == [keys[0], keys[1], None]
    assert [one.reaped for one in journal.entries(session)] == [True, True, False]
    finish(journal, keys[2:])
    assert other.take(session, keys[:2]) is None
    assert other.take(session, keys) == keys[2]
    other.close()


def test_reaping_leaves_what_is_not_finished(journal: Journal, session: str) -> None:
    keys = submit(journal, session, ids=["1", "2"], kind="like")
    finish(journal, keys[:1])
    journal.reap(keys)
    assert [one.reaped for one in journal.entries(session)] == [True, False]


def test_removing_takes_finished_jobs_and_tells_which_folders_can_go(journal: Journal, session: str) -> None:
    keys = submit(journal, session, ids=["1", "2"], kind="like")
    finish(journal, keys[:1])
    assert journal.remove(keys) == []
    assert journal.states(session) == [(keys[1], QUEUED)]
    finish(journal, keys[1:])
    (gone,) = journal.remove(keys)
    assert gone.folder == f"/work/aa/{'a' * 32}"
    assert journal.find(session, "a" * 32) == []
    assert journal.evidence(keys[0]) == []
    with pytest.raises(UnknownJob, match="nothing is kept"):
        journal.description(keys[0])


def test_pruning_is_bounded_and_takes_the_oldest(journal: Journal, session: str) -> None:
    keys = [submit(journal, session, f"{number:032x}")[0] for number in range(10)]
    for number, key in enumerate(keys[:9]):
        observe(journal, {key: [begin(), end(0, ended=T0 + 20 + number)]})
    assert len(journal.prune(T0 + 28, most=5)) == 5
    assert [key for key, _ in journal.states(session)] == keys[5:]
    assert len(journal.prune(T0 + 28, most=5)) == 3
    assert journal.prune(T0 + 28, most=5) == []
    assert [key for key, _ in journal.states(session)] == keys[8:]


def test_old_sessions_without_jobs_go_and_come_back_when_used(journal: Journal, session: str, clock: Clock) -> None:
    clock.now += 100
    young = journal.create_session("slurm", LOGIN).id
    used = Journal(journal.path, clock=clock)
    used.session(session)
    assert journal.prune(T0 + 50) == []
    assert [one.id for one in journal.sessions()] == [young]
    assert journal.session(young).id == young
    (key,) = submit(used, session)  # it was open there all the time
    assert journal.session(session).created == T0
    journal.prune(T0 + 50)
    assert journal.states(session) == [(key, QUEUED)]
    used.close()


# Other processes ------------------------------------------------------------------------------------------------------------------


def test_the_feed_tells_what_others_wrote(journal: Journal, session: str) -> None:
    other = Journal(journal.path)
    elsewhere = journal.create_session("oar", "oar").id
    (key,) = submit(journal, session)
    submit(journal, elsewhere, "b" * 32)
    assert other.changed()
    assert not other.changed()
    start = other.last_change()
    finish(journal, [key])
    assert other.changed()
    fed = other.changes_since(start, session=session)
    assert [(one.key, one.transition.state) for one in fed] == [(key, RUNNING), (key, DONE)]
    assert fed[-1].transition.ending is not None
    assert other.changes_since(fed[-1].number) == []
    assert [one.key for one in other.changes_since(0, most=2)] == [key, key + 1]
    other.close()


def test_the_feed_goes_on_after_its_newest_lines_were_removed(journal: Journal, session: str) -> None:
    (key,) = submit(journal, session)
    finish(journal, [key])
    start = journal.last_change()
    journal.remove([key])
    (later,) = submit(journal, session, "b" * 32)
    assert [one.key for one in journal.changes_since(start)] == [later]


def test_one_process_an_interval_asks_the_scheduler(journal: Journal, clock: Clock) -> None:
    others = [Journal(journal.path, clock=clock) for _ in range(4)]
    assert [one.claim_poll(LOGIN, 10.0) for one in others] == [True, False, False, False]
    assert journal.claim_poll("oar", 10.0)
    assert journal.last_poll(LOGIN) == clock.now
    clock.now += 9.9
    assert not any(one.claim_poll(LOGIN, 10.0) for one in others)
    assert others[3].claim_poll(LOGIN, 5.0)
    clock.now -= 3600  # a clock that was set back stops nobody
    assert [one.claim_poll(LOGIN, 10.0) for one in others] == [True, False, False, False]
    for one in others:
        one.close()


def test_a_lease_has_one_holder(journal: Journal, clock: Clock) -> None:
    other = Journal(journal.path, clock=clock)
    assert journal.acquire("poller")
    assert journal.acquire("poller")
    assert not other.acquire("poller")
    assert not other.renew("poller")
    clock.now += 100
    assert journal.renew("poller")
    clock.now += 100
    assert not other.acquire("poller")
    other.release("poller")  # not its own
    assert not other.acquire("poller")
    clock.now += 21
    assert other.acquire("poller")
    assert not journal.renew("poller")
    other.release("poller", other.owner)
    assert journal.acquire("poller")
    other.close()


# All of it ------------------------------------------------------------------------------------------------------------------------


def test_a_bit_of_everything_is_read_by_another(journal: Journal) -> None:
    session = fill(journal)
    other = Journal(journal.path)
    entries = other.entries(session)
    assert entries == journal.entries(session)
    assert [one.state for one in entries] == [CANCELLED, DONE, RUNNING, QUEUED, QUEUED, HELD, RUNNING]
    assert entries[5].reason == entries[0].name == ODD
    assert other.session(session).contact.endswith(ODD)
    assert other.check() == []
    other.close()
