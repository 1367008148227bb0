"""Every case of DRMAA's own conformance suites, and every row of what a better system must do, has its test or its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Case -> the tests that are it. Kind A and 2: of the official suite; G: of Grid Engine's copy.
CASES = {
    "ST_ERROR_CODES": "test_surface::test_error_codes",
    "ST_MULT_INIT": "test_session::test_initialize_twice",
    "ST_MULT_EXIT": "test_session::test_exit_twice",
    "ST_SUPPORTED_ATTR": "test_session::test_attribute_names",
    "ST_SUPPORTED_VATTR": "test_session::test_attribute_names",
    "ST_VERSION": "test_surface::test_version",
    "ST_CONTACT": "test_session::test_information",
    "ST_DRM_SYSTEM": "test_session::test_information",
    "ST_DRMAA_IMPL": "test_session::test_information",
    "ST_UNSUPPORTED_ATTR": "test_template::test_attributes_by_c_name",
    "ST_UNSUPPORTED_VATTR": "test_template::test_attributes_by_c_name",
    "ST_ATTRIBUTE_CHANGE": "test_template::test_round_trip",
    "ST_GET_NUM_JOBIDS": "test_jobs::test_bulk_ids",
    "ST_EMPTY_SESSION_WAIT": "test_jobs::test_empty_session_wait",
    "ST_EMPTY_SESSION_SYNCHRONIZE_DISPOSE": "test_jobs::test_empty_session_synchronize",
    "ST_EMPTY_SESSION_SYNCHRONIZE_NODISPOSE": "test_jobs::test_empty_session_synchronize",
    "ST_EMPTY_SESSION_CONTROL": "test_jobs::test_empty_session_control",
    "ST_SUBMIT_WAIT": "test_jobs::test_submit_wait",
    "ST_SUBMIT_NO_RUN_WAIT": "test_jobs::test_a_job_that_cannot_be_run",
    "ST_BULK_SUBMIT_WAIT": "test_jobs::test_bulk_submit_wait",
    "ST_BULK_SINGLESUBMIT_WAIT_INDIVIDUAL": "test_jobs::test_bulk_and_single_wait_individually",
    "ST_SUBMITMIXTURE_SYNC_ALL_DISPOSE": "test_jobs::test_mixture_synchronize",
    "ST_SUBMITMIXTURE_SYNC_ALL_NODISPOSE": "test_jobs::test_mixture_synchronize",
    "ST_SUBMITMIXTURE_SYNC_ALLIDS_DISPOSE": "test_jobs::test_mixture_synchronize",
    "ST_SUBMITMIXTURE_SYNC_ALLIDS_NODISPOSE": "test_jobs::test_mixture_synchronize",
    "ST_SUBMIT_PAUSE_SUBMIT_SYNC": "test_session::test_pause",
    "ST_SYNCHRONIZE_NONEXISTANT": "test_jobs::test_synchronize_of_what_nobody_submitted",
    "ST_EXIT_STATUS": "test_endings::test_every_exit_code",
    "ST_SUBMIT_KILL_SIG": "test_endings::test_twelve_signals",
    "ST_INPUT_FILE_FAILURE": "test_endings::test_what_cannot_start",
    "ST_OUTPUT_FILE_FAILURE": "test_endings::test_what_cannot_start",
    "ST_ERROR_FILE_FAILURE": "test_endings::test_what_cannot_start",
    "ST_SUBMIT_IN_HOLD_RELEASE": "test_jobs::test_hold_and_release",
    "ST_SUBMIT_IN_HOLD_DELETE": "test_jobs::test_hold_and_terminate",
    "ST_BULK_SUBMIT_IN_HOLD_SESSION_RELEASE": "test_jobs::test_bulk_hold",
    "ST_BULK_SUBMIT_IN_HOLD_SESSION_DELETE": "test_jobs::test_bulk_hold",
    "ST_BULK_SUBMIT_IN_HOLD_SINGLE_RELEASE": "test_jobs::test_bulk_hold",
    "ST_BULK_SUBMIT_IN_HOLD_SINGLE_DELETE": "test_jobs::test_bulk_hold",
    "ST_SUBMIT_POLLING_WAIT_TIMEOUT": "test_jobs::test_polling_wait",
    "ST_SUBMIT_POLLING_WAIT_ZEROTIMEOUT": "test_jobs::test_polling_wait",
    "ST_SUBMIT_POLLING_SYNCHRONIZE_TIMEOUT": "test_jobs::test_polling_synchronize",
    "ST_SUBMIT_POLLING_SYNCHRONIZE_ZEROTIMEOUT": "test_jobs::test_polling_synchronize",
    "ST_RECOVERABLE_SESSION": "test_session::test_recoverable_session",
    "ST_BULK_SUBMIT_INCRPH": "test_jobs::test_bulk_placeholders",
    "MT_SUBMIT_WAIT": "test_threads::test_submit_in_threads",
    "MT_SUBMIT_BEFORE_INIT_WAIT": "test_threads::test_submit_before_initialize",
    "MT_EXIT_DURING_SUBMIT": "test_threads::test_exit_during_submit",
    "MT_SUBMIT_MT_WAIT": "test_threads::test_submit_and_wait_in_threads",
    "MT_EXIT_DURING_SUBMIT_OR_WAIT": "test_threads::test_exit_during_submit_or_wait",
    # Kind G without a case name
    "issue 1832": "test_fidelity::test_reaped_jobs_stay_unknown",
    "issue 1892": "test_jobs::test_ids_that_look_like_others",
    "issue 1768": "test_describe::test_native_options_pass_through",
    "sync program": "test_fidelity::test_reaped_by_all",
    "foreign and deleted templates": "test_jobs::test_templates_that_are_none",
    "bad ranges": "test_jobs::test_bad_ranges",
    "timeout < -1": "test_jobs::test_wait_arguments",
    "unknown action": "test_control::test_unknown_action",
    "ALL on three jobs": "test_control::test_control_of_all",
    "jobStatus after synchronize without dispose": "test_jobs::test_mixture_synchronize",
    "contact before and after begin": "test_session::test_information",
    "unset properties": "test_template::test_unset",
    "date vectors": "test_times::test_accepted",
    # Kind M, by hand in those suites
    "ST_INPUT_BECOMES_OUTPUT": "test_fidelity::test_input_becomes_output",
    "ST_ATTRIBUTE_CHECK command, args": "test_jobs::test_later_changes_of_the_template",
    "ST_ATTRIBUTE_CHECK hold": "test_jobs::test_hold_and_release",
    "ST_ATTRIBUTE_CHECK directory, relative names": "test_fidelity::test_relative_command",
    "ST_ATTRIBUTE_CHECK error path, join": "test_fidelity::test_default_streams",
    "ST_ATTRIBUTE_CHECK start time": "test_jobs::test_start_time",
    "ST_ATTRIBUTE_CHECK environment": "test_fidelity::test_environment_of_a_job",
    "ST_ATTRIBUTE_CHECK blockEmail": "test_control::test_blocked_mail_asks_for_nothing",
    "ST_SUBMIT_SUSPEND_RESUME_WAIT": "test_control::test_suspend_resume_wait",
    "ST_DRMAA_JOB_PS": "test_control::test_jobs_of_other_sessions",
    "ST_DRMAA_CONTROL": "test_control::test_jobs_of_other_sessions",
    "ST_USAGE_CHECK": "test_endings::test_usage",
    "ST_TRANSFER_FILES_SINGLE_JOB": "test_fidelity::test_transfer_files",
    "ST_TRANSFER_FILES_BULK_JOB": "test_fidelity::test_transfer_files",
}
# Those that cannot run on the embedded scheduler, and why.
REASONS = {
    "ST_ATTRIBUTE_CHECK category, native": "the embedded scheduler has no options of its own: they are refused, "
    "test_control::test_what_the_embedded_scheduler_has_not; real ones have them: test_own_commands::test_native_options_arrive",
    "ST_ATTRIBUTE_CHECK mail": "it sends none: refused, as above; several addresses are test_describe::test_mail",
    "ST_RESERVATION_FINISH_ORDER": "of Grid Engine's scheduling, not of DRMAA",
    "ST_BACKFILL_FINISH_ORDER": "of Grid Engine's scheduling, not of DRMAA",
    "ST_WILD_PARALLEL": "of Grid Engine's parallel environments",
    "mcpu program": "a parallel environment by a native option",
    "no_bin program": "Grid Engine's -b n by a native option",
    "perf program": "bench/drmaa.py",
    "hold then release of a running job": "Grid Engine's library takes it; here it is 21 and 22, as the specification has it",
}
ROWS = {
    1: "test_import::test_import_has_no_effects",
    2: "test_surface::test_package_names",
    3: "test_fidelity::test_own_suite_of_the_package",
    4: "test_examples::test_program",
    5: "test_coverage::test_every_case_has_its_test",
    6: "test_session::test_independent_sessions",
    7: "test_threads::test_fork",
    8: "test_threads::test_fifty_threads",
    9: "test_threads::test_exit_wakes_waiters",
    10: "test_threads::test_control_c",
    11: "test_fidelity::test_bytes_arrive",
    12: "test_endings::test_limit",
    13: "test_jobs::test_ids_of_several_types",
    14: "test_endings::test_twelve_signals",
    15: "test_fidelity::test_nothing_known_of_an_ending",
    16: "test_fidelity::test_nothing_known_of_an_ending",
    17: "test_endings::test_what_cannot_start",
    18: "test_endings::test_policy",
    19: "test_control::test_suspend_resume_wait",
    20: "test_control::test_refused_before_submission",
    21: "test_jobs::test_bulk_placeholders",
    22: "test_describe::test_native_options_pass_through",
    23: "test_describe::test_vendor_names",
    24: "test_fidelity::test_cost_of_status",
    25: "test_control::test_from_another_process",
    26: "test_control::test_jobs_of_other_sessions",
    27: "test_endings::test_usage",
    28: "test_session::test_optional_attributes_are_honoured_or_refused",
    29: "test_surface::test_version",
    30: "test_unreachable::test_waiting_for_a_scheduler_that_is_away",
    31: "test_describe::test_mail",
    32: "test_fidelity::test_silence",
}


def _tests() -> set[str]:
    found = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(f"{path.stem}::{node.name}")
    return found


@pytest.mark.parametrize("table", [CASES, ROWS], ids=["cases", "rows"])
def test_every_case_has_its_test(table: dict[object, str]) -> None:
    assert set(table.values()) <= _tests()


def test_every_row_is_here() -> None:
    assert sorted(ROWS) == list(range(1, 33))
    assert not set(CASES) & set(REASONS)
