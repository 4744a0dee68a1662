"""Where replicas go: a model's shape, settings and node types in, placements out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.errors import DoesNotFit, NotEnoughGpus, PlanError, SpecError
from cluster.settings import MOST, EngineSettings
from dream.errors import InvalidRequest, MemoryExceeded
from dream.memory import MemoryPlan, ModelShape, check, check_degree, gpu_budget, valid_degrees

__all__ = [
    "NodeType",
    "NodeUse",
    "Placement",
    "Plan",
    "ReplicaResources",
    "most_replicas",
    "plan",
    "replica_resources",
]


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
    """Every replica placed: one bundle per rank, and the node each replica goes to.

    memory: what each rank takes of its GPU.
    """

    tensor_parallel: int
    bundles: list[dict[str, float]]
    strategy: str
    placements: tuple[Placement, ...]
    memory: MemoryPlan

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
    memory: MemoryPlan

    def replicas_per_node(self, node_type: NodeType) -> int:
        """How many replicas the GPUs and CPUs of one node hold."""
        by_gpus = node_type.num_gpus // self.tensor_parallel
        by_cpus = int(node_type.num_cpus // (self.tensor_parallel * self.num_cpus))
        return min(by_gpus, by_cpus)


def plan(
    shape: ModelShape,
    settings: EngineSettings,
    node_types: Sequence[NodeType],
    *,
    num_replicas: int,
    smallest: bool = False,
    num_cpus: float = 1.0,
) -> Plan:
    """Placement of `num_replicas`, node types filled in the order given; or why there is none.

    A rank fits a GPU exactly if the engine would start there: its plan of memory is at most what
    CUDA's context leaves free. smallest: the fewest ranks with which all replicas fit, instead of
    the settings' tensor_parallel. num_cpus: logical CPUs of one rank.
    """
    _check_names(node_types)
    _check_range("num_replicas", num_replicas, num_replicas >= 1, "an integer >= 1")
    _check_range("num_cpus", num_cpus, num_cpus > 0, "a number > 0")
    degrees = valid_degrees(shape, settings.dtype) if smallest else (settings.tensor_parallel,)
    refusals: list[PlanError] = []
    for degree in degrees:
        tried = settings.model_copy(update={"tensor_parallel": degree})
        try:
            need, fitting = _fitting(shape, tried, node_types, num_cpus)
            return _place(need, fitting, num_replicas)
        except PlanError as refusal:
            refusals.append(refusal)
    raise next((r for r in refusals if isinstance(r, NotEnoughGpus)), refusals[-1])


def most_replicas(
    shape: ModelShape,
    settings: EngineSettings,
    node_types: Sequence[NodeType],
    *,
    num_cpus: float = 1.0,
) -> int:
    """How many replicas fit on all nodes; PlanError where none does."""
    need, fitting = _fitting(shape, settings, node_types, num_cpus)
    return _capacity(need, _usable(need, fitting))


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
    return ReplicaResources(
        ray_actor_options={"num_cpus": 0},
        placement_group_bundles=_bundles(tensor_parallel, num_cpus, device),
        placement_group_strategy="STRICT_PACK",
    )


def _bundles(
    tensor_parallel: int, num_cpus: float, device: Literal["cpu", "cuda"]
) -> list[dict[str, float]]:
    """One for each rank."""
    gpu: dict[str, float] = {"GPU": 1} if device == "cuda" else {}
    return [gpu | {"CPU": num_cpus} for _ in range(tensor_parallel)]


def _check_names(node_types: Sequence[NodeType]) -> None:
    names = [node_type.name for node_type in node_types]
    for name in names:
        if names.count(name) > 1:
            raise PlanError("node_types", name, "each name once")


def _check_range(field: str, value: float, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:
        raise PlanError(field, value, allowed)


def _fitting(
    shape: ModelShape, settings: EngineSettings, node_types: Sequence[NodeType], num_cpus: float
) -> tuple[_Need, list[NodeType]]:
    """What a replica needs, and the node types whose GPUs have the memory for a rank of it."""
    degree = settings.tensor_parallel
    free = {t.name: gpu_budget(t.gpu_memory_bytes) for t in node_types if t.num_gpus}
    try:
        check_degree(shape, degree)
        found = check(shape, settings, max(free.values(), default=0))
    except MemoryExceeded as error:
        allowed = f"with tensor_parallel {degree}, {error.allowed} on the largest GPU"
        raise DoesNotFit(error.field, error.value, allowed) from error
    except InvalidRequest as error:
        raise PlanError(error.field, error.value, error.allowed) from error
    need = _Need(tensor_parallel=degree, num_cpus=num_cpus, memory=found)
    return need, [t for t in node_types if free.get(t.name, -1) >= found.total]


def _place(need: _Need, fitting: Sequence[NodeType], num_replicas: int) -> Plan:
    usable = _usable(need, fitting)
    capacity = _capacity(need, usable)
    if capacity < num_replicas:
        size = need.tensor_parallel
        raise NotEnoughGpus(
            "num_replicas",
            num_replicas,
            f"tensor_parallel {size} needs {num_replicas * size} GPUs in whole groups of {size}, "
            f"the cluster tops out at {capacity * size} ({capacity} replicas)",
        )
    slots = _slots(need, usable)
    return Plan(
        tensor_parallel=need.tensor_parallel,
        bundles=_bundles(need.tensor_parallel, need.num_cpus, "cuda"),
        strategy="STRICT_PACK" if need.tensor_parallel > 1 else "PACK",
        placements=tuple(
            Placement(replica=replica, node_type=name, node=node)
            for replica, (name, node) in zip(range(num_replicas), slots, strict=False)
        ),
        memory=need.memory,
    )


def _capacity(need: _Need, usable: Sequence[NodeType]) -> int:
    return sum(need.replicas_per_node(t) * t.max_nodes for t in usable)


def _usable(need: _Need, fitting: Sequence[NodeType]) -> list[NodeType]:
    """Node types that hold a replica in one node; refuses when there is none."""
    size = need.tensor_parallel
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
