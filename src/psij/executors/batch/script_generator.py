"""Submit scripts from templates."""

from __future__ import annotations

import enum
import importlib
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import IO, Any

from ...job import Job
from ...job_executor_config import JobExecutorConfig
from ._quoting import Marks
from .escape_functions import bash_escape

__all__ = ["SubmitScriptGenerator", "TemplatedScriptGenerator"]

_COMMON = pathlib.Path(__file__).parent / "common"
PARTIALS = ("batch_lib", "stagein", "stageout", "cleanup")


class SubmitScriptGenerator(ABC):
    """Writes the script that is submitted for a job."""

    def __init__(self, config: JobExecutorConfig) -> None:
        self.config = config

    @abstractmethod
    def generate_submit_script(self, job: Job, context: dict[str, object], out: IO[str]) -> None:
        """Write the script for the job; ``context`` is that of BatchSchedulerExecutor.generate_submit_script."""


class TemplatedScriptGenerator(SubmitScriptGenerator):
    """Writes scripts from a Mustache template, a bash script with directives.

    With ``bash_escape`` every ``{{value}}`` is written as its place asks for: between double quotes, single quotes, or
    outside them it arrives unchanged, whatever it holds; in a directive (any comment) it stands between the template's own
    double quotes, or in single quotes where it needs some, and InvalidJobException is raised for what has no safe form
    there. Another ``escape`` is called with each value's text and its result written as it is; ``{{{value}}}`` always is.
    ``{{> batch_lib}}``, ``{{> stagein}}``, ``{{> stageout}}`` and ``{{> cleanup}}`` are the shared parts of scripts.

    Needs pystache: ``pip install jobyard[psij-plugins]``; ImportError says so. FileNotFoundError: there is no such template.
    """

    def __init__(
        self, config: JobExecutorConfig, template_path: pathlib.Path, escape: Callable[[object], str] = bash_escape
    ) -> None:
        super().__init__(config)
        self._pystache = _pystache()
        self.escape = escape
        self.template = self._pystache.parse(pathlib.Path(template_path).read_text(encoding="utf-8"))

    def generate_submit_script(self, job: Job, context: dict[str, object], out: IO[str]) -> None:
        """Write the rendered template to ``out``. InvalidJobException as above."""
        marks = Marks()
        by_place = self.escape is bash_escape
        renderer = self._pystache.Renderer(escape=marks.mark if by_place else self.escape, partials=partials())
        renderer.str_coerce = _text
        rendered: str = renderer.render(self.template, context)
        out.write(marks.fill(rendered) if by_place else rendered)


def _pystache() -> Any:
    try:
        pystache = importlib.import_module("pystache")
    except ImportError as error:
        raise ImportError("Mustache templates need pystache: pip install 'jobyard[psij-plugins]'") from error
    return pystache


def partials() -> dict[str, str]:
    """The shared parts of scripts, by name."""
    return {name: (_COMMON / f"{name}.mustache").read_text(encoding="utf-8") for name in PARTIALS}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value)
