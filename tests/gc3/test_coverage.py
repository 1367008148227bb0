"""Each requirement of the GC3 front, and the test that shows it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

METHODS = {
    "constructor": "test_surface::test_the_sixteen_arguments",
    "extra arguments": "test_surface::test_extra_arguments_become_attributes",
    "near misses": "test_surface::test_a_near_miss_warns",
    "submit_job": "test_jobs::test_a_whole_life",
    "update_job_state": "test_jobs::test_a_whole_life",
    "cancel_job": "test_jobs::test_cancelled",
    "free": "test_files::test_freeing_a_running_job_is_refused_unless_forced",
    "get_results": "test_files::test_the_table",
    "peek": "test_files::test_peeking",
    "close": "test_jobs::test_closing",
    "validate_data": "test_surface::test_validate_data",
    "get_prologue_script": "test_jobs::test_order_of_scripts",
    "get_epilogue_script": "test_jobs::test_order_of_scripts",
    "get_jobid_from_submit_output": "test_dialect::test_the_id_in_what_a_command_printed",
    "generic_filename_mapping": "test_surface::test_names_of_standard_streams",
    "not provided": "test_surface::test_what_is_not_provided_says_so",
    "ready backends": "test_engine_backends::test_the_ready_ones",
    "gc3pie.conf": "test_configuration::test_backends",
    "sites": "test_configuration::test_sites_for_every_front",
}
# The twelve cases that GC3Pie runs on its transports.
TRANSPORT = {
    "remote user": "test_transport::test_remote_user",
    "isdir": "test_transport::test_isdir",
    "listdir": "test_transport::test_listdir",
    "makedirs": "test_transport::test_makedirs",
    "recursive makedirs": "test_transport::test_makedirs",
    "open": "test_transport::test_open",
    "remove": "test_transport::test_remove",
    "chmod": "test_transport::test_chmod",
    "get and put": "test_transport::test_put_and_get",
    "open nonexistent": "test_transport::test_open_what_is_not_there",
    "open unreadable": "test_transport::test_open_what_cannot_be_read",
    "remove nonexistent": "test_transport::test_remove",
}
# Requirements, by their numbers: what a better system than GC3Pie must do.
ROWS = {
    1: "test_over_ssh::test_resources_and_threads_share_one_connection",
    2: "test_over_ssh::test_a_hundred_peeks_at_once",
    5: "test_transport::test_an_unknown_host_key_is_refused_and_ignoring_it_warns",
    6: "test_transport::test_a_host_that_does_not_answer",
    8: "test_transport::test_commands",
    9: "test_jobs::test_names_arrive_unchanged",
    10: "test_faults::test_a_banner_around_the_id",
    11: "test_files::test_a_thousand_files_take_few_messages",
    12: "test_over_ssh::test_a_link_that_breaks_within_a_file",
    14: "test_files::test_the_table",
    15: "test_files::test_what_is_missing_is_told_and_what_is_required_is_an_error",
    16: "test_files::test_fetching_again_and_again_renames_nothing",
    17: "test_engine_backends::test_five_hundred_tasks_cost_two_commands_a_poll",
    18: "test_faults::test_a_query_that_fails_changes_no_state",
    19: "test_jobs::test_a_job_that_is_shot_has_its_signal_without_accounting",
    20: "test_faults::test_two_blips_are_no_loss",
    21: "test_dialect::test_states",
    22: "test_jobs::test_a_prologue_that_fails_is_its_own_outcome",
    23: "test_faults::test_killed_at_any_line_every_task_runs_once",
    24: "test_jobs::test_a_refused_submission_leaves_nothing_and_can_be_repeated",
    25: "test_jobs::test_another_process_goes_on_with_a_kept_record",
    26: "test_files::test_peeking",
    28: "test_files::test_a_record_that_was_tampered_with",
    29: "test_faults::test_a_full_disk_there",
    30: "test_jobs::test_what_a_cancel_command_says",
    32: "test_values::test_limits_are_rounded_up_and_never_to_nothing",
    33: "test_dialect::test_whatever_is_printed_raises_nothing_else",
}
# Shown by tests of other rooms, since it is theirs to keep.
ELSEWHERE = {
    3: "transports/test_attempts::test_the_intervals_grow_to_the_longest",
    4: "transports/test_logins::test_through_a_jump_host",
    7: "transports/test_logins::test_without_a_terminal_the_error_says_how",
    13: "transports/test_sync::test_a_large_file_goes_on_where_it_was_cut",
    27: "cli/test_follow::test_the_last_lines_of_a_large_file_and_what_comes_then",
    34: "packaging/test_distribution::test_the_wheel_says_what_it_is",
}
REASONS = {
    31: "caps, retries and circuit breakers belong to Core and Engine, which are not provided; a call here is one attempt",
}
# The life of a task, table by table (facts, section 2): each on both transports.
LIFE = {
    "submission": "test_jobs::test_a_whole_life",
    "submission that is refused": "test_jobs::test_a_refused_submission_leaves_nothing_and_can_be_repeated",
    "prologue and epilogue": "test_jobs::test_order_of_scripts",
    "a failing status command": "test_faults::test_a_query_that_fails_changes_no_state",
    "accounting that comes late": "test_faults::test_accounting_that_lags",
    "accounting_delay": "test_faults::test_accounting_delay_is_counted_from_the_disappearance",
    "no sign of a job": "test_faults::test_a_job_without_a_trace_is_lost",
    "waiting, running, stopped": "test_jobs::test_held_and_suspended_are_stopped",
    "exit codes": "test_jobs::test_exit_codes",
    "signals": "test_jobs::test_signals",
    "walltime": "test_jobs::test_walltime",
    "node failures": "test_jobs::test_a_node_that_fails",
    "get_results": "test_files::test_the_table",
    "missing outputs": "test_files::test_what_is_missing_is_told_and_what_is_required_is_an_error",
    "peek": "test_files::test_peeking",
    "cancel": "test_jobs::test_what_a_cancel_command_says",
    "free": "test_files::test_freeing_that_fails_is_told_and_repeated",
    "close": "test_jobs::test_closing",
}
_BOTH = frozenset({"transport", "done", "make", "system", "either"})  # fixtures of conftest.py that come once for each transport


def _tests(folder: Path = HERE) -> dict[str, set[str]]:
    """The tests of a folder, and the fixtures of each."""
    return {
        f"{path.stem}::{node.name}": {argument.arg for argument in node.args.args}
        for path in folder.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("table", [METHODS, TRANSPORT, ROWS, LIFE], ids=["methods", "transport", "rows", "life"])
def test_every_case_has_its_test(table: dict[object, str]) -> None:
    assert set(table.values()) <= set(_tests()), sorted(set(table.values()) - set(_tests()))


def test_every_row_is_here() -> None:
    assert sorted([*ROWS, *ELSEWHERE, *REASONS]) == list(range(1, 35))


@pytest.mark.parametrize("test", ELSEWHERE.values())
def test_what_is_shown_elsewhere_is_there(test: str) -> None:
    folder, _, name = test.rpartition("/")
    assert name in _tests(HERE.parent / folder)


@pytest.mark.parametrize("table", [TRANSPORT, LIFE], ids=["transport", "life"])
def test_it_is_shown_on_both_transports(table: dict[str, str]) -> None:
    fixtures = _tests()
    assert [name for name in table.values() if not fixtures[name] & _BOTH] == []
