"""Machines that Ray runs on without a launcher file, and how many replicas they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from cluster.errors import DoesNotFit, NotEnoughGpus, SpecError
from cluster.settings import EngineSettings
from cluster.spec import read_shape, refusal
from cluster.topology import NodeType, most_replicas
from dream.errors import MemoryExceeded
from dream.memory import GIB, MemoryPlan, check

__all__ = ["MACHINES", "Machines", "capacity", "memory_of_rank", "read_machines"]

DeviceKind = Literal["cpu", "cuda"]


class Machines(EngineSettings):
    """So many nodes of one kind, and what is served on them.

    num_cpus, num_gpus, memory_gib: of a node; the memory of each GPU, or of a node without one.
    num_ingresses: each takes a CPU. cpus_per_rank: what a replica, or each rank of one, takes.
    max_replicas: None leaves room for one more, with which a redeploy begins, where four fit.
    """

    model: str = Field(default="Dream-org/Dream-v0-Instruct-7B", min_length=1)
    num_nodes: int = Field(default=1, ge=1)
    num_cpus: int = Field(default=16, ge=1)
    num_gpus: int = Field(default=1, ge=0)
    memory_gib: float = Field(default=79, gt=0)
    num_ingresses: int = Field(default=1, ge=1)
    cpus_per_rank: int = Field(default=1, ge=1)
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int | None = Field(default=None, ge=1)

    @property
    def device(self) -> DeviceKind:
        """What replicas compute on."""
        return "cuda" if self.num_gpus else "cpu"


MACHINES: Mapping[str, Mapping[str, str | int | float]] = {
    "cpu": {
        "model": "embedded",
        "num_cpus": 8,
        "num_gpus": 0,
        "memory_gib": 16,
        "cpus_per_rank": 2,
        "dtype": "float32",
        "max_num_batched_tokens": 1024,
        "max_logit_rows": 256,
    },
    "gpu": {},
    "node": {"num_cpus": 96, "num_gpus": 8, "num_ingresses": 2},
    "nodes": {
        "num_nodes": 2,
        "num_cpus": 96,
        "num_gpus": 8,
        "num_ingresses": 2,
        "tensor_parallel": 2,
        "min_replicas": 2,
    },
}
"""One CPU machine, one GPU, a node of eight, and several nodes whose replicas span two GPUs."""


def read_machines(name: str, options: Mapping[str, str]) -> Machines:
    """The machines of that name with some values changed; SpecError says what is wrong."""
    if name not in MACHINES:
        raise SpecError("on", name, "one of " + ", ".join(MACHINES))
    for key, value in options.items():
        if not value.isprintable():
            raise SpecError(key, value, "one line of printable text")
    try:
        machines = Machines.model_validate({**MACHINES[name], **options})
    except ValidationError as error:
        raise refusal(error) from error
    if machines.num_gpus == 0 and machines.tensor_parallel > 1:
        raise SpecError("tensor_parallel", machines.tensor_parallel, "1 on machines without GPUs")
    return machines


def capacity(machines: Machines) -> int:
    """How many replicas fit; PlanError where none does, or fewer than `max_replicas`."""
    fitting = _on_gpus(machines) if machines.num_gpus else _on_cpus(machines)
    wanted = machines.max_replicas or 1
    if fitting < wanted:
        allowed = f"at most {fitting}, as many as fit these machines"
        raise NotEnoughGpus("max_replicas", wanted, allowed)
    return fitting


def memory_of_rank(machines: Machines) -> MemoryPlan:
    """What each process of a replica takes; DoesNotFit where a GPU or a node has less."""
    free = int(machines.memory_gib * GIB)
    try:
        return check(read_shape(machines.model), machines, free)
    except MemoryExceeded as error:
        raise DoesNotFit(error.field, error.value, error.allowed) from error


def _on_gpus(machines: Machines) -> int:
    node = NodeType(
        name="node",
        num_cpus=max(0, machines.num_cpus - machines.num_ingresses),
        num_gpus=machines.num_gpus,
        gpu_memory_bytes=int(machines.memory_gib * GIB),
        max_nodes=machines.num_nodes,
    )
    settings = EngineSettings(**{n: getattr(machines, n) for n in EngineSettings.model_fields})
    shape, cpus = read_shape(machines.model), machines.cpus_per_rank
    return most_replicas(shape, settings, [node], num_cpus=cpus)


def _on_cpus(machines: Machines) -> int:
    by_memory = int(machines.memory_gib * GIB) // memory_of_rank(machines).total
    by_cpus = (machines.num_cpus - machines.num_ingresses) // machines.cpus_per_rank
    return max(0, min(by_memory, by_cpus)) * machines.num_nodes
