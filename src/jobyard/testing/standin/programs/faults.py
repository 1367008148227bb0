"""What the stand-in does wrong when it is told to: a list of faults, each for one program, so many times."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

# kind: what happens to the answer
KINDS = {
    "exit": "the command fails with `code` and `text` on its standard error",
    "garbage": "its output is random bytes",
    "noise": "a banner stands around the output",
    "truncated": "its output ends in the middle (`keep`: the part that stays)",
    "interleaved": "two lines of its output are mixed into each other",
    "foreign": "rows of something else stand among those of the jobs",
    "empty": "it prints nothing and exits with 0",
    "blank": "blank lines stand between the rows",
    "doubled": "each row is printed twice",
    "shuffled": "the rows come in any order",
    "contradict": "each row is printed twice, with different states",
    "lie": "the state of jobs is another one (`words`: id -> state)",
    "vanish": "jobs are left out (`ids`, or all), and the count agrees",
    "wrong_ids": "the ids are those of nothing",
    "late": "the answer comes after `seconds`",
    "hang": "the answer never comes",
    "deny": "control: every id is denied",
    "mute": "submit: accepted, but nothing is printed",
    "die_after": "submit: accepted, then the command is killed before it prints",
    "die_before": "submit: the command is killed before anything is accepted",
    "hang_after": "submit: accepted, but the command never ends",
    "twice": "submit: accepted twice, one id is printed",
    "refuse": "submit: refused, with `text`",
}


class Answer(NamedTuple):
    """What goes back to a command."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""
    fate: bytes = b""  # "die": the command kills itself


class Faults:
    """The faults that are to happen, and what became of them."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.random = random.Random(0)

    def add(self, fault: dict[str, Any]) -> str | None:
        """What is wrong with it, or None once it is taken."""
        if fault.get("kind") not in KINDS:
            return f"no kind of fault: {fault.get('kind')!r}"
        self.waiting.append(dict(fault))
        return None

    def take(self, program: str) -> dict[str, Any] | None:
        """The fault that happens to this call, one call used up."""
        for fault in self.waiting:
            if fault.get("program") not in (program, None):
                continue
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
                continue
            if fault.get("times") is not None:
                fault["times"] -= 1
                if fault["times"] <= 0:
                    self.waiting.remove(fault)
            return fault
        return None

    def spoil(self, fault: dict[str, Any], answer: Answer) -> Answer:
        """The answer with the fault in it."""
        kind = fault["kind"]
        if kind == "exit":
            text = fault.get("text", "standin: error: something went wrong")
            return Answer(fault.get("code", 1), b"", text.encode() + b"\n")
        if kind == "empty":
            return Answer()
        if kind == "garbage":
            return answer._replace(out=self.random.randbytes(fault.get("size", 500)))
        if kind == "noise":
            banner = b"\x1b[31m*** Welcome to the cluster | maintenance on Monday ***\x1b[0m\n"
            return answer._replace(out=banner + answer.out + banner)
        if kind == "truncated":
            return answer._replace(out=answer.out[: int(len(answer.out) * fault.get("keep", 0.6))])
        if kind == "blank":
            return answer._replace(out=answer.out.replace(b"\n", b"\n\n   \n"))
        lines = answer.out.splitlines()
        if len(lines) < 3:
            return answer
        return answer._replace(out=b"\n".join([lines[0], *self._rows(fault, lines[1:-1]), b""]))

    def _rows(self, fault: dict[str, Any], rows: list[bytes]) -> list[bytes]:
        kind, count = fault["kind"], len(rows)
        if kind == "interleaved":
            first, second = rows[0], rows[1] if count > 1 else b"<html><body>502 Bad Gateway</body></html>"
            mixed = [first[: len(first) // 2] + second, first[len(first) // 2 :]]
            return [*mixed, *rows[2:], b"END %d" % count]
        if kind == "foreign":
            others = [
                b"99999|RUNNING|||0|1|1.0|2.0||||0||/nowhere/else|someone",
                b"pbs.server.1   other_job   R  00:01",
                b"slurm_load_jobs",
            ]
            mixed = [others[0], *rows, *others[1:]]
            return [*mixed, b"END %d" % (count + 1)]
        if kind == "doubled":
            rows = [row for row in rows for _ in range(2)]
        elif kind == "shuffled":
            self.random.shuffle(rows)
        elif kind == "contradict":
            rows = [each for row in rows for each in (row, _with_word(row, b"PENDING" if b"|RUNNING|" in row else b"RUNNING"))]
        elif kind == "lie":
            words = {key.encode(): value.encode() for key, value in fault["words"].items()}
            rows = [_with_word(row, words[row.split(b"|")[0]]) if row.split(b"|")[0] in words else row for row in rows]
        elif kind == "vanish":
            ids = fault.get("ids")
            rows = [row for row in rows if ids is not None and row.split(b"|")[0].decode() not in ids]
        elif kind == "wrong_ids":
            rows = [b"x" + row for row in rows]
        return [*rows, b"END %d" % len(rows)]


def _with_word(row: bytes, word: bytes) -> bytes:
    fields = row.split(b"|")
    fields[1] = word
    return b"|".join(fields)
