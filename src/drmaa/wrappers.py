"""Names of the C binding. There is no C library here: nothing is loaded, and its functions raise.

drmaa-python loads libdrmaa when this module is imported; ``DRMAA_LIBRARY_PATH`` has no meaning to jobyard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .errors import error_buffer

__all__ = ["STRING", "error_buffer", "py_drmaa_exit", "py_drmaa_init"]

STRING = bytes


def _absent(name: str) -> Callable[..., NoReturn]:
    def function(*args: Any) -> NoReturn:
        raise NotImplementedError(f"{name}: jobyard's drmaa has no C library behind it; use drmaa.Session and drmaa.JobTemplate")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of the C binding, which is not here: raises NotImplementedError."
    return function


for _name in (
    "drmaa_allocate_job_template",
    "drmaa_control",
    "drmaa_delete_job_template",
    "drmaa_exit",
    "drmaa_get_DRMAA_implementation",
    "drmaa_get_DRM_system",
    "drmaa_get_attribute",
    "drmaa_get_attribute_names",
    "drmaa_get_contact",
    "drmaa_get_next_attr_name",
    "drmaa_get_next_attr_value",
    "drmaa_get_next_job_id",
    "drmaa_get_num_attr_names",
    "drmaa_get_num_attr_values",
    "drmaa_get_vector_attribute",
    "drmaa_get_vector_attribute_names",
    "drmaa_init",
    "drmaa_job_ps",
    "drmaa_release_attr_names",
    "drmaa_release_attr_values",
    "drmaa_release_job_ids",
    "drmaa_run_bulk_jobs",
    "drmaa_run_job",
    "drmaa_set_attribute",
    "drmaa_set_vector_attribute",
    "drmaa_strerror",
    "drmaa_synchronize",
    "drmaa_version",
    "drmaa_wait",
    "drmaa_wcoredump",
    "drmaa_wexitstatus",
    "drmaa_wifaborted",
    "drmaa_wifexited",
    "drmaa_wifsignaled",
    "drmaa_wtermsig",
):
    globals()[_name] = _absent(_name)
    __all__ += [_name]  # noqa: PLE0604 - names made in the loop
del _name


def py_drmaa_init(contact: Any = None) -> None:
    """``Session.initialize``."""
    from .session import Session

    Session.initialize(contact)


def py_drmaa_exit() -> None:
    """``Session.exit``."""
    from .session import Session

    Session.exit()
