"""What a job needs of the machine."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ._fields import Field, flag, optional_count, same
from .exceptions import InvalidJobException

__all__ = ["ResourceSpec", "ResourceSpecV1"]


class ResourceSpec(ABC):
    """The base of all resource specifications."""

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of this class of specification."""

    @staticmethod
    def get_instance(version: int) -> ResourceSpec:
        """A new specification of that version; ValueError where there is none."""
        if version == 1:
            return ResourceSpecV1()
        raise ValueError(f"there is no resource specification of version {version!r}; there is version 1")


def _positive(label: str, value: int | None) -> int | None:
    value = optional_count(label, value)
    if value is not None and value < 1:
        raise InvalidJobException(f"{label} must be 1 or more, not {value}")
    return value


def _not_negative(label: str, value: int | None) -> int | None:
    value = optional_count(label, value)
    if value is not None and value < 0:
        raise InvalidJobException(f"{label} must be 0 or more, not {value}")
    return value


_NAMES = (
    "node_count",
    "process_count",
    "processes_per_node",
    "cpu_cores_per_process",
    "gpu_cores_per_process",
    "exclusive_node_use",
    "memory",
)


class ResourceSpecV1(ResourceSpec):
    """Nodes, processes, cores, GPUs and memory.

    process_count = node_count * processes_per_node. What is left out is worked out from what is given; contradictions
    raise InvalidJobException when the object is made and, where it was changed later, when a computed property is read
    or the job is submitted. A count below 1 (for GPUs: below 0) raises InvalidJobException, a wrong type TypeError.
    ``memory`` is in bytes, for the whole job.
    """

    def __init__(
        self,
        node_count: int | None = None,
        process_count: int | None = None,
        processes_per_node: int | None = None,
        cpu_cores_per_process: int | None = None,
        gpu_cores_per_process: int | None = None,
        exclusive_node_use: bool = False,
        memory: int | None = None,
    ) -> None:
        self.node_count = node_count
        self.process_count = process_count
        self.processes_per_node = processes_per_node
        self.cpu_cores_per_process = cpu_cores_per_process
        self.gpu_cores_per_process = gpu_cores_per_process
        self.exclusive_node_use = exclusive_node_use
        self.memory = memory
        self._layout()

    node_count = Field[int | None, int | None](_positive, "Nodes for the job.")
    process_count = Field[int | None, int | None](_positive, "Processes in all.")
    processes_per_node = Field[int | None, int | None](_positive, "Processes on each node.")
    cpu_cores_per_process = Field[int | None, int | None](_positive, "CPU cores for each process.")
    gpu_cores_per_process = Field[int | None, int | None](_not_negative, "GPUs for each process.")
    exclusive_node_use = Field[bool, bool](flag, "True: no other job on the nodes of this one.")
    memory = Field[int | None, int | None](_positive, "Bytes of memory for the whole job.")

    @property
    def version(self) -> int:
        """1."""
        return 1

    @property
    def computed_node_count(self) -> int:
        """Nodes, given or worked out."""
        return self._layout()[0]

    @property
    def computed_process_count(self) -> int:
        """Processes in all, given or worked out."""
        return self._layout()[1]

    @property
    def computed_processes_per_node(self) -> int:
        """Processes on each node, given or worked out."""
        return self._layout()[2]

    @property
    def memory_kb(self) -> int | None:
        """``memory`` in KiB, rounded down; None where it is None."""
        return None if self.memory is None else self.memory // 1024

    def _layout(self) -> tuple[int, int, int]:
        nodes, processes, per_node = self.node_count, self.process_count, self.processes_per_node
        if processes is None:
            nodes, per_node = nodes or 1, per_node or 1
            return nodes, nodes * per_node, per_node
        if nodes is None and per_node is None:
            return 1, processes, processes
        if nodes is None and per_node is not None:
            if processes % per_node:
                raise InvalidJobException(
                    f"process_count={processes} cannot be laid out with processes_per_node={per_node}: it is not a multiple"
                )
            return processes // per_node, processes, per_node
        assert nodes is not None
        if per_node is None:
            if processes % nodes:
                raise InvalidJobException(f"process_count={processes} cannot be laid out evenly on node_count={nodes}")
            return nodes, processes, processes // nodes
        if nodes * per_node != processes:
            raise InvalidJobException(
                f"node_count={nodes} times processes_per_node={per_node} is not process_count={processes}; leave one out"
            )
        return nodes, processes, per_node

    def __eq__(self, other: object) -> bool:
        return same(self, other, _NAMES) if type(other) is type(self) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in _NAMES if getattr(self, name) not in (None, False))
        return f"ResourceSpecV1({given})"
