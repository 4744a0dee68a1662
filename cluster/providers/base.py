"""What a cloud contributes to a launcher file, and how its options are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from cluster.errors import SpecError

__all__ = [
    "APT_VENV",
    "CommaList",
    "Machine",
    "MachineCounts",
    "Options",
    "Part",
    "Provider",
    "Yaml",
    "gpu_memory",
    "worker_types",
]

APT_VENV = "sudo apt-get update && sudo apt-get -o DPkg::Lock::Timeout=300 install -y python3-venv"
"""For Ubuntu images; a machine that has just started may still hold dpkg's lock."""

Yaml: TypeAlias = "str | int | float | bool | Sequence[Yaml] | Mapping[str, Yaml] | None"


class Options(BaseModel):
    """Options as typed on the command line, key=value; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A cloud's machine type; `gpu_memory_gib` is what CUDA reports, a little under the label."""

    num_cpus: int
    num_gpus: int
    gpu_memory_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A provider's part of a launcher file."""

    launcher: Mapping[str, Yaml]
    gpu_memory_gib: Mapping[str, float]
    system_setup: Sequence[str] = ()
    head_setup: Sequence[str] = ()
    head_flags: str = ""
    local_node: Mapping[str, int] | None = None
    up_environment: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


Provider: TypeAlias = Callable[[Mapping[str, str]], Part]
"""One per cloud: its options in, its part of the file out."""


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


def _split_counts(value: object) -> object:
    if not isinstance(value, str):
        return value
    counts: dict[str, str] = {}
    for item in value.split(","):
        name, colon, count = item.strip().partition(":")
        if not colon or name in counts:
            raise ValueError("write NAME:MAX,NAME:MAX, each name once")
        counts[name] = count
    return counts


CommaList: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""`a,b` on the command line."""

MachineCounts: TypeAlias = Annotated[dict[str, int], BeforeValidator(_split_counts)]
"""`p5.4xlarge:4,p5.48xlarge:1`: machine types, each with the most nodes of it."""


def worker_types(
    counts: Mapping[str, int],
    machines: Mapping[str, Machine],
    node_config: Callable[[str], Mapping[str, Yaml]],
) -> dict[str, Yaml]:
    """Launcher entries of the worker node types, named after their machine types."""
    types: dict[str, Yaml] = {}
    for name, max_nodes in counts.items():
        machine = _machine(name, machines)
        if max_nodes < 1:
            raise SpecError("machines", f"{name}:{max_nodes}", "at least one node of each")
        types[name] = {
            "min_workers": 0,
            "max_workers": max_nodes,
            "resources": {"CPU": machine.num_cpus, "GPU": machine.num_gpus},
            "node_config": node_config(name),
        }
    return types


def gpu_memory(counts: Mapping[str, int], machines: Mapping[str, Machine]) -> dict[str, float]:
    """GiB per GPU of each machine type asked for."""
    return {name: _machine(name, machines).gpu_memory_gib for name in counts}


def _machine(name: str, machines: Mapping[str, Machine]) -> Machine:
    if name not in machines:
        raise SpecError("machines", name, "one of " + ", ".join(machines))
    return machines[name]
