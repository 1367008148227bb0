"""Waiting for what only polling tells: a task's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobyard.testing.polling import eventually


def reached(system: Any, app: Any, *states: str, timeout_s: float = 60.0) -> str:
    """Ask for the task's state until it is one of these."""
    seen: list[str] = []

    def there() -> bool:
        seen.append(system.update_job_state(app))
        return seen[-1] in states

    eventually(there, f"{app} is in {states}", timeout_s)
    return seen[-1]


def ended(system: Any, app: Any, timeout_s: float = 60.0) -> Any:
    """Wait for the task's end; its record."""
    reached(system, app, "TERMINATING", timeout_s=timeout_s)
    return app.execution


def run(system: Any, app: Any) -> Any:
    """Submit, and wait for the end; the task's record."""
    system.submit_job(app)
    return ended(system, app)


GATED = 'touch "$1/begun"; while [ ! -e "$1/gate" ]; do sleep 0.02; done; exit "$2"'


def gated(folder: Path, code: int = 0) -> list[str]:
    """A program that begins by making ``begun``, and ends when ``gate`` is there. The hooks quote words so that $ is expanded
    where the job runs, so these are escaped."""
    return ["/bin/sh", "-c", GATED.replace("$", "\\$"), "sh", str(folder), str(code)]


def asked(inner: Any, monkeypatch: Any) -> list[str]:
    """What login hosts are asked over connections like this transport's from now on, as it grows."""
    requests: list[str] = []
    kind = type(inner.connection.link())
    send = kind.send

    def noted(self: Any, op: str, *rest: Any, **more: Any) -> Any:
        requests.append(op)
        return send(self, op, *rest, **more)

    monkeypatch.setattr(kind, "send", noted)
    return requests
