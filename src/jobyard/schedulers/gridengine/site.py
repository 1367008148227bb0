"""What qconf says of the site: parallel environments, resources (complexes), limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ...errors import SchedulerUnavailable
from ..base import Result, SiteLimits

__all__ = ["Environment", "Resource", "Site", "parse_limits", "parse_site"]

_CONTINUED = re.compile(r"\s*\\\n\s*")  # qconf breaks long values with a backslash
_GPUS = ("gpu", "gpus", "ngpus", "num_gpu", "cuda_devices")  # names that sites give to a count of GPUs


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A parallel environment: how its slots are laid out on nodes (sge_pe(5), allocation_rule)."""

    name: str
    rule: str  # "$pe_slots", "$round_robin", "$fill_up", or slots on each node
    slots: int


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that jobs can request (sge_complex(5))."""

    name: str
    kind: str  # INT, MEMORY, BOOL, ...
    relation: str  # "<=", "==", "EXCL"
    consumable: str  # NO, YES (for each slot), JOB


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What this site has, as far as jobs can ask for it."""

    environments: tuple[Environment, ...] = ()
    resources: Mapping[str, Resource] = {}

    @property
    def gpus(self) -> Resource | None:
        """The resource that counts GPUs, where there is one of a usual name."""
        return next((self.resources[name] for name in _GPUS if name in self.resources), None)

    @property
    def exclusive(self) -> Resource | None:
        """The resource that keeps others off a node."""
        return next((one for one in self.resources.values() if one.relation == "EXCL"), None)


def parse_site(result: Result) -> Site:
    """From ``qconf -sc`` and ``qconf -sp`` of each environment, one after the other. SchedulerUnavailable: no answer."""
    if result.returncode != 0 or "#name" not in result.text:
        raise SchedulerUnavailable("qconf does not tell the site's resources")
    resources: dict[str, Resource] = {}
    environments: list[Environment] = []
    known: dict[str, str] = {}
    for line in _CONTINUED.sub(" ", result.text).splitlines():
        words = line.split()
        if len(words) == 8 and words[4] in ("YES", "NO", "FORCED") and not line.startswith("#"):
            if words[4] != "NO":
                resources[words[0]] = Resource(name=words[0], kind=words[2], relation=words[3], consumable=words[5])
        elif len(words) >= 2 and words[0] in ("pe_name", "slots", "allocation_rule"):
            known[words[0]] = words[1]
            if words[0] == "allocation_rule" and "pe_name" in known and re.fullmatch(r"[0-9]{1,9}", known.get("slots", "")):
                environments.append(Environment(name=known["pe_name"], rule=words[1], slots=int(known["slots"])))
                known = {}
    return Site(environments=tuple(environments), resources=resources)


def parse_limits(result: Result) -> SiteLimits:
    """From ``qconf -sconf global``; 0 is no limit there (sge_conf(5))."""
    found = dict(re.findall(r"^(max_aj_tasks|max_u_jobs)\s+([0-9]{1,10})\s*$", result.text, re.MULTILINE))
    if result.returncode != 0 or "max_aj_tasks" not in found:
        raise SchedulerUnavailable("qconf tells no limits")
    return SiteLimits(max_array_size=int(found["max_aj_tasks"]) or None, max_jobs=int(found.get("max_u_jobs", "0")) or None)
