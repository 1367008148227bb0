"""PSI/J: jobs on any batch scheduler, through the interface of psij-python.

>>> import psij
>>> ex = psij.JobExecutor.get_instance("local")
>>> job = psij.Job(psij.JobSpec(executable="/bin/true"))
>>> ex.submit(job)
>>> job.wait().exit_code
0

Importing it starts no thread, installs no signal handler, prints nothing, and looks for no plugins.
"""

from . import _exit as _exit
from .exceptions import InvalidJobException, SubmitException
from .job import Job, JobStatusCallback
from .job_attributes import JobAttributes
from .job_executor import JobExecutor
from .job_executor_config import JobExecutorConfig
from .job_launcher import Launcher
from .job_spec import JobSpec
from .job_state import JobState
from .job_status import JobStatus
from .resource_spec import ResourceSpec, ResourceSpecV1
from .version import VERSION

__version__ = VERSION

__all__ = [
    "VERSION",
    "InvalidJobException",
    "Job",
    "JobAttributes",
    "JobExecutor",
    "JobExecutorConfig",
    "JobSpec",
    "JobState",
    "JobStatus",
    "JobStatusCallback",
    "Launcher",
    "ResourceSpec",
    "ResourceSpecV1",
    "SubmitException",
]
