"""Launchers that wrap the job in a shell script."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from ..exceptions import InvalidJobException
from ..job import Job
from ..job_executor_config import JobExecutorConfig
from ..job_launcher import Launcher

__all__ = ["ScriptBasedLauncher"]

_SCRIPTS = Path(__file__).parent / "scripts"


class ScriptBasedLauncher(Launcher):
    """The base of launchers that are a shell script, copied to where compute nodes can read it.

    The command line is ``/bin/bash SCRIPT JOB_ID LOG_FILE PRE_LAUNCH POST_LAUNCH STDIN STDOUT STDERR [MORE...] EXECUTABLE
    ARGUMENTS...``. Absent files are empty words, absent streams ``/dev/null``; MORE is what ``get_additional_args`` says. A
    script begins with ``source "$(dirname "$0")/launcher_lib.sh"``, which takes the first seven words away, sets
    ``_PSI_J_JOB_ID``, ``_PSI_J_LOG_FILE``, ``_PSI_J_PRE_LAUNCH``, ``_PSI_J_POST_LAUNCH``, ``_PSI_J_STDIN``, ``_PSI_J_STDOUT``
    and ``_PSI_J_STDERR``, and defines the functions ``log``, ``pre_launch`` and ``post_launch``.
    """

    def __init__(self, script_path: Path, config: JobExecutorConfig | None = None) -> None:
        super().__init__(config)
        self._script_path = Path(script_path)
        self._log_file = str(self.config.launcher_log_file or "")
        self._lock = threading.RLock()
        self._deployed: tuple[Path, Path] | None = None  # the root it was copied under, the script there

    def _files_to_deploy(self) -> list[Path]:
        """The script, the library that it sources, and whatever a subclass adds."""
        return [self._script_path, _SCRIPTS / "launcher_lib.sh"]

    def _deploy(self) -> Path:
        root = deployment_root(self.config)
        with self._lock:
            if self._deployed is None or self._deployed[0] != root or not self._deployed[1].exists():
                self._deployed = (root, deploy(self._files_to_deploy(), root) / self._script_path.name)
            return self._deployed[1]

    def get_launch_command(self, job: Job, log_file: str | None = None) -> list[str]:
        """The command line above. InvalidJobException where the job has no executable."""
        spec = job.spec
        if spec is None or spec.executable is None:
            raise InvalidJobException("the job has no executable; set JobSpec.executable")
        return [
            "/bin/bash",
            str(self._deploy()),
            job.id,
            log_file if log_file is not None else self._log_file,
            str(spec.pre_launch or ""),
            str(spec.post_launch or ""),
            str(spec.stdin_path or "/dev/null"),
            str(spec.stdout_path or "/dev/null"),
            str(spec.stderr_path or "/dev/null"),
            *self.get_additional_args(job),
            spec.executable,
            *(spec.arguments or ()),
        ]

    def get_additional_args(self, job: Job) -> list[str]:
        """Words between the streams and the executable; none, unless a subclass says so."""
        return []


def deployment_root(config: JobExecutorConfig) -> Path:
    """The folder for scripts that compute nodes read: the configured work directory, else that of jobyard."""
    if config._work_directory is not None:
        return config._work_directory
    from .._engine import work_root

    root = work_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)  # here: as a parent of others it would get another mode
    return root / "psij"


def deploy(files: list[Path], root: Path) -> Path:
    """A folder below ``root`` with copies of the files, named after their contents; made once, whoever comes first."""
    executable = {path.name for path in files if os.access(path, os.X_OK)}
    return deploy_data([(path.name, path.read_bytes()) for path in files], root, executable)


def deploy_data(contents: list[tuple[str, bytes]], root: Path, executable: Collection[str] = ()) -> Path:
    """As ``deploy``, from contents. Folders are 0700 and files 0600: what is run from there is read by its own user alone."""
    digest = hashlib.sha256()
    for name, data in contents:
        digest.update(b"%s\0%d\0" % (os.fsencode(name), len(data)))
        digest.update(data)
    target = root / digest.hexdigest()
    if target.is_dir():
        return target  # renamed into place when it was complete
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".deploy-") as made:
        fresh = Path(made) / "files"
        fresh.mkdir(mode=0o700)
        for name, data in contents:
            mode = 0o700 if name in executable else 0o600
            with open(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target
