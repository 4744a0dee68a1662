"""Where replicas go: a model footprint and node types in, placement-group bundles out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.errors import DoesNotFit, NotEnoughGpus, PlanError, SpecError
from cluster.footprint import DREAM_7B, GIB, ModelFootprint

__all__ = [
    "DREAM_7B",
    "GIB",
    "MOST",
    "ModelFootprint",
    "NodeType",
    "NodeUse",
    "Placement",
    "Plan",
    "ReplicaResources",
    "plan",
    "replica_resources",
]

MOST = 2**60
"""More of anything than a cluster has, and little enough to compute with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """One kind of machine and how many of it the cluster may have."""

    name: str
    num_cpus: float
    num_gpus: int
    gpu_memory_bytes: int
    max_nodes: int

    def __post_init__(self) -> None:
        for name in ("num_cpus", "num_gpus", "gpu_memory_bytes", "max_nodes"):
            value = getattr(self, name)
            if not 0 <= value <= MOST:
                raise SpecError(f"{self.name}.{name}", value, "a finite number >= 0, at most 2**60")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The node of one replica: the `node`-th (from 0) of its type."""

    replica: int
    node_type: str
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What a plan takes of one node type; `replicas_per_node` is the fullest node's."""

    node_type: str
    num_nodes: int
    num_replicas: int
    replicas_per_node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaResources:
    """What one replica asks of Ray; without a placement group the last two are None."""

    ray_actor_options: dict[str, float]
    placement_group_bundles: list[dict[str, float]] | None
    placement_group_strategy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every replica placed: one bundle per rank, and the node each replica goes to."""

    tensor_parallel: int
    bundles: list[dict[str, float]]
    strategy: str
    placements: tuple[Placement, ...]
    memory_bytes_per_gpu: int

    @property
    def num_replicas(self) -> int:
        """How many replicas are placed."""
        return len(self.placements)

    @property
    def num_gpus(self) -> int:
        """GPUs that the replicas hold together."""
        return self.num_replicas * self.tensor_parallel

    @property
    def num_nodes(self) -> int:
        """Nodes that hold at least one replica."""
        return sum(use.num_nodes for use in self.nodes)

    @property
    def nodes(self) -> tuple[NodeUse, ...]:
        """What is taken of each node type, in the order the types are filled."""
        counts: dict[str, dict[int, int]] = {}
        for placement in self.placements:
            per_node = counts.setdefault(placement.node_type, {})
            per_node[placement.node] = per_node.get(placement.node, 0) + 1
        return tuple(
            NodeUse(
                node_type=name,
                num_nodes=len(per_node),
                num_replicas=sum(per_node.values()),
                replicas_per_node=max(per_node.values()),
            )
            for name, per_node in counts.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What one replica needs of one node."""

    tensor_parallel: int
    num_cpus: float
    memory_bytes: int

    def replicas_per_node(self, node_type: NodeType) -> int:
        """How many replicas the GPUs and CPUs of one node hold."""
        by_gpus = node_type.num_gpus // self.tensor_parallel
        by_cpus = int(node_type.num_cpus // (self.tensor_parallel * self.num_cpus))
        return min(by_gpus, by_cpus)


def plan(
    footprint: ModelFootprint,
    node_types: Sequence[NodeType],
    *,
    tensor_parallel: int | None,
    num_replicas: int,
    max_rows: int = 16_384,
    max_logit_rows: int = 512,
    num_cpus: float = 1.0,
    memory_fraction: float = 0.9,
) -> Plan:
    """Placement of `num_replicas`, node types filled in the order given; or why there is none.

    tensor_parallel: ranks per replica; None takes the fewest with which all replicas fit.
    max_rows, max_logit_rows: packed rows of a forward, and rows of logits held at once.
    num_cpus: logical CPUs of one rank.
    memory_fraction: share of a GPU's memory that may be planned; the rest is CUDA's and slack.
    """
    _check_names(node_types)
    _check_range("num_replicas", num_replicas, num_replicas >= 1, "an integer >= 1")
    _check_range("max_rows", max_rows, max_rows >= 1, "an integer >= 1")
    _check_range("max_logit_rows", max_logit_rows, max_logit_rows >= 1, "an integer >= 1")
    _check_range("num_cpus", num_cpus, num_cpus > 0, "a number > 0")
    _check_range("memory_fraction", memory_fraction, 0 < memory_fraction <= 1, "in (0, 1]")
    refusals: list[PlanError] = []
    for size in _sizes(footprint, tensor_parallel):
        need = _Need(
            tensor_parallel=size,
            num_cpus=num_cpus,
            memory_bytes=footprint.memory_bytes(size, max_rows, max_logit_rows),
        )
        try:
            return _place(need, node_types, num_replicas, memory_fraction)
        except PlanError as refusal:
            refusals.append(refusal)
    raise next((r for r in refusals if isinstance(r, NotEnoughGpus)), refusals[-1])


def replica_resources(
    *, device: Literal["cpu", "cuda"], tensor_parallel: int = 1, num_cpus: float = 1.0
) -> ReplicaResources:
    """What one replica asks of Ray: itself for one rank, a bundle per rank for several.

    With several ranks the replica holds nothing: GPUs and CPUs belong to the rank actors.
    """
    _check_range("tensor_parallel", tensor_parallel, tensor_parallel >= 1, "an integer >= 1")
    _check_range("num_cpus", num_cpus, num_cpus > 0, "a number > 0")
    if tensor_parallel == 1:
        options = {"num_cpus": num_cpus} | ({"num_gpus": 1} if device == "cuda" else {})
        return ReplicaResources(
            ray_actor_options=options, placement_group_bundles=None, placement_group_strategy=None
        )
    bundle = {"CPU": num_cpus} if device == "cpu" else {"GPU": 1, "CPU": num_cpus}
    return ReplicaResources(
        ray_actor_options={"num_cpus": 0},
        placement_group_bundles=[dict(bundle) for _ in range(tensor_parallel)],
        placement_group_strategy="STRICT_PACK",
    )


def _check_names(node_types: Sequence[NodeType]) -> None:
    names = [node_type.name for node_type in node_types]
    for name in names:
        if names.count(name) > 1:
            raise PlanError("node_types", name, "each name once")


def _check_range(field: str, value: float, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:
        raise PlanError(field, value, allowed)


def _sizes(footprint: ModelFootprint, tensor_parallel: int | None) -> tuple[int, ...]:
    sizes = footprint.tensor_parallel_sizes
    if tensor_parallel is None:
        return sizes
    if tensor_parallel not in sizes:
        raise PlanError(
            "tensor_parallel",
            tensor_parallel,
            f"one of {', '.join(map(str, sizes))}: it must divide num_key_value_heads "
            f"{footprint.num_key_value_heads}, num_attention_heads "
            f"{footprint.num_attention_heads} and intermediate_size {footprint.intermediate_size}",
        )
    return (tensor_parallel,)


def _place(
    need: _Need, node_types: Sequence[NodeType], num_replicas: int, memory_fraction: float
) -> Plan:
    usable = _usable(need, node_types, memory_fraction)
    capacity = sum(need.replicas_per_node(t) * t.max_nodes for t in usable)
    if capacity < num_replicas:
        size = need.tensor_parallel
        raise NotEnoughGpus(
            "num_replicas",
            num_replicas,
            f"tensor_parallel {size} needs {num_replicas * size} GPUs in whole groups of {size}, "
            f"the cluster tops out at {capacity * size} ({capacity} replicas)",
        )
    slots = _slots(need, usable)
    bundle: dict[str, float] = {"GPU": 1, "CPU": need.num_cpus}
    return Plan(
        tensor_parallel=need.tensor_parallel,
        bundles=[dict(bundle) for _ in range(need.tensor_parallel)],
        strategy="STRICT_PACK" if need.tensor_parallel > 1 else "PACK",
        placements=tuple(
            Placement(replica=replica, node_type=name, node=node)
            for replica, (name, node) in zip(range(num_replicas), slots, strict=False)
        ),
        memory_bytes_per_gpu=need.memory_bytes,
    )


def _usable(need: _Need, node_types: Sequence[NodeType], memory_fraction: float) -> list[NodeType]:
    """Node types that hold a replica in one node; refuses when there is none."""
    size = need.tensor_parallel
    limits = {t.name: int(t.gpu_memory_bytes * memory_fraction) for t in node_types if t.num_gpus}
    fitting = [t for t in node_types if limits.get(t.name, -1) >= need.memory_bytes]
    if not fitting:
        most = max(limits.values(), default=0)
        raise DoesNotFit(
            "tensor_parallel",
            size,
            f"needs {need.memory_bytes / GIB:.2f} GiB per GPU, "
            f"the largest GPU has {most / GIB:.2f} GiB to plan with",
        )
    usable = [t for t in fitting if need.replicas_per_node(t) > 0]
    if not usable:
        largest = max(fitting, key=lambda t: t.num_gpus)
        raise DoesNotFit(
            "tensor_parallel",
            size,
            f"a replica must fit in one node: needs {size} GPUs and {size * need.num_cpus:g} CPUs, "
            f"{largest.name} has {largest.num_gpus} and {largest.num_cpus:g}",
        )
    return usable


def _slots(need: _Need, node_types: Sequence[NodeType]) -> Iterator[tuple[str, int]]:
    for node_type in node_types:
        for node in range(node_type.max_nodes):
            for _ in range(need.replicas_per_node(node_type)):
                yield node_type.name, node
