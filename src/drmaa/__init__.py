"""DRMAA 1.0 on jobyard: a drop-in for drmaa-python that needs no libdrmaa and runs on every scheduler that jobyard has.

>>> import drmaa
>>> with drmaa.Session() as session:
...     template = session.createJobTemplate()
...     template.remoteCommand = "/bin/true"
...     session.wait(session.runJob(template)).exitStatus
0

Importing it loads no engine, starts nothing and looks at nothing.
"""

from __future__ import annotations

from . import const as const
from . import errors as errors
from . import helpers as helpers
from . import session as session
from . import version as version
from .const import (
    ATTR_BUFFER,
    BLOCK_EMAIL,
    CONTACT_BUFFER,
    DEADLINE_TIME,
    DRM_SYSTEM_BUFFER,
    DRMAA_IMPLEMENTATION_BUFFER,
    DURATION_HLIMIT,
    DURATION_SLIMIT,
    ERROR_PATH,
    ERROR_STRING_BUFFER,
    INPUT_PATH,
    JOB_CATEGORY,
    JOB_IDS_SESSION_ALL,
    JOB_IDS_SESSION_ANY,
    JOB_NAME,
    JOBNAME_BUFFER,
    JOIN_FILES,
    JS_STATE,
    NATIVE_SPECIFICATION,
    NO_MORE_ELEMENTS,
    OUTPUT_PATH,
    PLACEHOLDER_HD,
    PLACEHOLDER_INCR,
    PLACEHOLDER_WD,
    REMOTE_COMMAND,
    SIGNAL_BUFFER,
    START_TIME,
    SUBMISSION_STATE_ACTIVE,
    SUBMISSION_STATE_HOLD,
    TIMEOUT_NO_WAIT,
    TIMEOUT_WAIT_FOREVER,
    TRANSFER_FILES,
    V_ARGV,
    V_EMAIL,
    V_ENV,
    WCT_HLIMIT,
    WCT_SLIMIT,
    WD,
    JobControlAction,
    JobState,
    JobSubmissionState,
    control_action_to_string,
    job_state,
    status_to_string,
    string_to_control_action,
    submission_state,
)
from .errors import (
    AlreadyActiveSessionException,
    AuthorizationException,
    ConflictingAttributeValuesException,
    DefaultContactStringException,
    DeniedByDrmException,
    DrmCommunicationException,
    DrmsExitException,
    DrmsInitException,
    ExitTimeoutException,
    HoldInconsistentStateException,
    IllegalStateException,
    InternalException,
    InvalidArgumentException,
    InvalidAttributeFormatException,
    InvalidAttributeValueException,
    InvalidContactStringException,
    InvalidJobException,
    InvalidJobTemplateException,
    NoActiveSessionException,
    NoDefaultContactStringSelectedException,
    OutOfMemoryException,
    ReleaseInconsistentStateException,
    ResumeInconsistentStateException,
    SuspendInconsistentStateException,
    TryLaterException,
    UnsupportedAttributeException,
)
from .errors import NoRusageException as NoRusageException
from .session import JobInfo, JobTemplate, Session
from .version import VERSION as VERSION
from .version import __version__ as __version__

__docformat__ = "restructuredtext en"

__all__ = [
    "ATTR_BUFFER",
    "BLOCK_EMAIL",
    "CONTACT_BUFFER",
    "DEADLINE_TIME",
    "DRMAA_IMPLEMENTATION_BUFFER",
    "DRM_SYSTEM_BUFFER",
    "DURATION_HLIMIT",
    "DURATION_SLIMIT",
    "ERROR_PATH",
    "ERROR_STRING_BUFFER",
    "INPUT_PATH",
    "JOBNAME_BUFFER",
    "JOB_CATEGORY",
    "JOB_IDS_SESSION_ALL",
    "JOB_IDS_SESSION_ANY",
    "JOB_NAME",
    "JOIN_FILES",
    "JS_STATE",
    "NATIVE_SPECIFICATION",
    "NO_MORE_ELEMENTS",
    "OUTPUT_PATH",
    "PLACEHOLDER_HD",
    "PLACEHOLDER_INCR",
    "PLACEHOLDER_WD",
    "REMOTE_COMMAND",
    "SIGNAL_BUFFER",
    "START_TIME",
    "SUBMISSION_STATE_ACTIVE",
    "SUBMISSION_STATE_HOLD",
    "TIMEOUT_NO_WAIT",
    "TIMEOUT_WAIT_FOREVER",
    "TRANSFER_FILES",
    "V_ARGV",
    "V_EMAIL",
    "V_ENV",
    "WCT_HLIMIT",
    "WCT_SLIMIT",
    "WD",
    "AlreadyActiveSessionException",
    "AuthorizationException",
    "ConflictingAttributeValuesException",
    "DefaultContactStringException",
    "DeniedByDrmException",
    "DrmCommunicationException",
    "DrmsExitException",
    "DrmsInitException",
    "ExitTimeoutException",
    "HoldInconsistentStateException",
    "IllegalStateException",
    "InternalException",
    "InvalidArgumentException",
    "InvalidAttributeFormatException",
    "InvalidAttributeValueException",
    "InvalidContactStringException",
    "InvalidJobException",
    "InvalidJobTemplateException",
    "JobControlAction",
    "JobInfo",
    "JobState",
    "JobSubmissionState",
    "JobTemplate",
    "NoActiveSessionException",
    "NoDefaultContactStringSelectedException",
    "OutOfMemoryException",
    "ReleaseInconsistentStateException",
    "ResumeInconsistentStateException",
    "Session",
    "SuspendInconsistentStateException",
    "TryLaterException",
    "UnsupportedAttributeException",
    "control_action_to_string",
    "job_state",
    "status_to_string",
    "string_to_control_action",
    "submission_state",
]


def __getattr__(name: str) -> object:
    if name == "wrappers":  # names of a C binding that is not here: made only for those who look
        from importlib import import_module

        return import_module(".wrappers", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
