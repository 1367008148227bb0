"""The old name of ``psij.job_launcher``."""

from .job_launcher import Launcher

__all__ = ["Launcher"]
