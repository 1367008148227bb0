"""Which submissions a call becomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobyard.description import describe
from jobyard.layout import lay_out_array, lay_out_jobs
from jobyard.schedulers.base import Capabilities, Kind, SiteLimits

ALL = Capabilities(arrays=True, per_task_control=True)


def test_like_jobs_go_together_and_others_alone() -> None:
    jobs = [describe(["a"]), describe(["b"], cores=2), describe(["c"], environment={"X": "1"}), describe(["d"], queue="q")]
    parts = lay_out_jobs(jobs, ALL, SiteLimits())
    assert [(part.kind, list(part.positions)) for part in parts] == [
        (Kind.LIKE, [0, 2]),
        (Kind.SINGLE, [1]),
        (Kind.SINGLE, [3]),
    ]
    assert parts[0].indices == (0, 1)
    assert [job.argv for job in parts[0].descriptions] == [("a",), ("c",)]


def test_no_coalescing_where_one_task_cannot_be_held() -> None:
    jobs = [describe(["a"]), describe(["a"])]
    parts = lay_out_jobs(jobs, Capabilities(arrays=True, per_task_control=False), SiteLimits())
    assert [part.kind for part in parts] == [Kind.SINGLE, Kind.SINGLE]


@given(
    st.lists(st.sampled_from(["", "q1", "q2"]), max_size=40),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_every_job_once_in_parts_that_the_site_allows(queues: list[str], most: int | None) -> None:
    jobs = [describe(["x", n], queue=queue or None) for n, queue in enumerate(queues)]
    parts = lay_out_jobs(jobs, ALL, SiteLimits(max_array_size=most))
    assert sorted(position for part in parts for position in part.positions) == list(range(len(jobs)))
    for part in parts:
        assert most is None or len(part.positions) <= most or part.kind is Kind.SINGLE
        assert [jobs[position] for position in part.positions] == list(part.descriptions)
        assert len({jobs[position].queue for position in part.positions}) == 1
    firsts = [part.positions[0] for part in parts]
    assert firsts == sorted(firsts)


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=60, unique=True).map(sorted),
    st.one_of(st.none(), st.integers(1, 12)),
    st.one_of(st.none(), st.integers(1, 20)),
)
def test_an_array_in_parts_keeps_its_indices_and_its_cap(indices: list[int], cap: int | None, most: int | None) -> None:
    job = describe(["x"])
    parts = lay_out_array(job, indices, cap, SiteLimits(max_array_size=most))
    assert [index for part in parts for index in part.indices] == indices
    if cap is None:
        assert all(part.max_running is None for part in parts)
        return
    running_at_once = [part.max_running for part in parts if not part.chained]
    if any(part.chained for part in parts):
        assert [part.chained for part in parts] == [False] + [True] * (len(parts) - 1)
        assert all(part.max_running == cap for part in parts)
    else:
        assert sum(value for value in running_at_once if value) == cap
        assert all(value for value in running_at_once)
