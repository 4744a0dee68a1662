"""The typed view of cluster.yaml: the launcher's keys as Ray sees them, ours as we do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.errors import MissingSetting, SpecError
from cluster.launcher import check_launcher
from cluster.providers.local import LOCAL_NODE, MAX_GIB
from cluster.settings import EngineSettings
from cluster.topology import NodeType, Plan, plan
from dream.errors import InvalidRequest
from dream.memory import DREAM_7B, GIB, ModelShape

__all__ = ["ClusterSpec", "DreamBlock", "load", "parse", "read_shape", "refusal"]


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Theirs(BaseModel):
    """The part of Ray's format that is read here; Ray itself refuses what it does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Replicas(_Ours):
    """How many replicas the deployment may have."""

    min: int = Field(ge=0)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"replicas.min {self.min} is more than replicas.max {self.max}")
        return self


class LocalNode(_Ours):
    """Shape of the machines of provider local, for which Ray has no node types."""

    num_cpus: int = Field(ge=1)
    num_gpus: int = Field(ge=1)


class DreamBlock(EngineSettings):
    """Our settings, `metadata.dream`: what is served and how much memory a GPU has."""

    model: str = Field(min_length=1)
    replicas: Replicas
    gpu_memory_gib: dict[str, Annotated[float, Field(gt=0, le=MAX_GIB)]]
    local_node: LocalNode | None = None


class _Metadata(_Theirs):
    dream: DreamBlock


class _Provider(_Theirs):
    type: str
    head_ip: str | None = None
    worker_ips: list[str] = []


class _NodeEntry(_Theirs):
    resources: dict[str, int]
    max_workers: int | None = Field(default=None, ge=0)


class _Launcher(_Theirs):
    cluster_name: str
    max_workers: int = Field(ge=0)
    provider: _Provider
    available_node_types: dict[str, _NodeEntry] = {}
    file_mounts: dict[str, str] = {}
    head_node_type: str | None = None
    metadata: _Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A launcher file that Ray and we accept."""

    cluster_name: str
    provider: str
    dream: DreamBlock
    node_types: tuple[NodeType, ...]

    def plan(self, shape: ModelShape) -> Plan:
        """Placement of the most replicas that the file allows."""
        return plan(shape, self.dream, self.node_types, num_replicas=self.dream.replicas.max)


def load(path: Path) -> ClusterSpec:
    """The file at `path`, checked by Ray and by us."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("file", str(path), f"a readable UTF-8 file: {error}") from error
    return parse(text)


def parse(text: str) -> ClusterSpec:
    """A launcher file's text, checked by Ray and by us."""
    try:
        return _parse(text)
    except RecursionError as error:
        raise SpecError("launcher file", text[:40], "nested less deeply") from error


def read_shape(model: str, config_file: Path | None = None) -> ModelShape:
    """Shape of `model` from a config.json that can be read here; otherwise Dream 7B's.

    A hub id, or a folder that only the nodes have, names one of the published checkpoints.
    """
    path = config_file or _embedded(model) or Path(model) / "config.json"
    if config_file is None and not path.is_file():
        return DREAM_7B
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise SpecError("config.json", str(path), f"a readable JSON file: {error}") from error
    if not isinstance(config, dict):
        raise SpecError("config.json", str(path), "a JSON object")
    try:
        return ModelShape.from_config(config)
    except InvalidRequest as error:
        raise SpecError(error.field, error.value, error.allowed) from error


def _embedded(model: str) -> Path | None:
    """The config.json of the checkpoint that the package `dream` has in it."""
    found = find_spec("dream") if model == "embedded" else None
    return None if found is None else Path(str(found.origin)).parent / "embedded/config.json"


def refusal(error: ValidationError) -> SpecError:
    """What pydantic found wrong, as an error of ours: first of all a setting we do not know."""
    errors = error.errors()
    missing = [_dotted(item["loc"]) for item in errors if item["type"] == "missing"]
    unknown = [item for item in errors if item["type"] == "extra_forbidden"]
    if unknown:
        required = "".join(f"; {field} is required" for field in missing)
        allowed = f"there is no such setting{required}"
        return SpecError(_dotted(unknown[0]["loc"]), unknown[0]["input"], allowed)
    first = errors[0]
    if first["type"] == "missing":
        return MissingSetting(_dotted(first["loc"]), None, "it must be given")
    message = first["msg"].removeprefix("Value error, ")
    return SpecError(_dotted(first["loc"]), first["input"], message)


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "settings"


def _parse(text: str) -> ClusterSpec:
    config = _read_yaml(text)
    try:
        launcher = _Launcher.model_validate(config)
    except ValidationError as error:
        raise refusal(error) from error
    check_launcher(config)
    return ClusterSpec(
        cluster_name=launcher.cluster_name,
        provider=launcher.provider.type,
        dream=launcher.metadata.dream,
        node_types=_node_types(launcher),
    )


def _read_yaml(text: str) -> dict[str, object]:
    try:
        config = yaml.safe_load(text)
    # PyYAML lets through what its constructors raise, for `2001-99-99` or `!!bool x`.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError) as error:
        raise SpecError("launcher file", text[:40], f"YAML: {error}") from error
    if not isinstance(config, dict):
        raise SpecError("launcher file", config, "a mapping of launcher keys")
    return config


def _check_head(launcher: _Launcher) -> None:
    """Refuse a head that Ray would give work to."""
    if launcher.head_node_type not in launcher.available_node_types:
        raise SpecError("head_node_type", launcher.head_node_type, "one of available_node_types")
    resources = launcher.available_node_types[launcher.head_node_type].resources
    if (resources.get("CPU"), resources.get("GPU")) != (0, 0):
        field = f"available_node_types.{launcher.head_node_type}.resources"
        raise SpecError(field, resources, "CPU: 0 and GPU: 0, so that the head takes no work")


def _node_types(launcher: _Launcher) -> tuple[NodeType, ...]:
    dream = launcher.metadata.dream
    if launcher.provider.type == "local":
        return (_local_node_type(launcher, dream),)
    _check_head(launcher)
    if dream.local_node is not None:
        raise SpecError("metadata.dream.local_node", launcher.provider.type, "provider local only")
    workers = {
        name: entry
        for name, entry in launcher.available_node_types.items()
        if name != launcher.head_node_type and entry.resources.get("GPU", 0) > 0
    }
    _check_memory_names(dream.gpu_memory_gib, sorted(workers))
    limits = _most_nodes(launcher, workers)
    return tuple(
        NodeType(
            name=name,
            num_cpus=entry.resources.get("CPU", 0),
            num_gpus=entry.resources["GPU"],
            gpu_memory_bytes=int(dream.gpu_memory_gib[name] * GIB),
            max_nodes=limits[name],
        )
        for name, entry in workers.items()
    )


def _most_nodes(launcher: _Launcher, workers: Mapping[str, _NodeEntry]) -> dict[str, int]:
    """Nodes each type may have; all of them at once, so that a plan can be kept."""
    limits = {
        name: launcher.max_workers if entry.max_workers is None else entry.max_workers
        for name, entry in workers.items()
    }
    total = sum(limits.values())
    if total > launcher.max_workers:
        allowed = f"at least {total}, the sum over the node types with GPUs"
        raise SpecError("max_workers", launcher.max_workers, allowed)
    return limits


def _local_node_type(launcher: _Launcher, dream: DreamBlock) -> NodeType:
    if dream.local_node is None:
        raise MissingSetting(
            "metadata.dream.local_node", None, "num_cpus and num_gpus of a machine"
        )
    _check_memory_names(dream.gpu_memory_gib, [LOCAL_NODE])
    machines = [launcher.provider.head_ip, *launcher.provider.worker_ips]
    if len(set(machines)) != len(machines):
        ips = launcher.provider.worker_ips
        raise SpecError("provider.worker_ips", ips, "each machine once, and not the head")
    return NodeType(
        name=LOCAL_NODE,
        num_cpus=dream.local_node.num_cpus,
        num_gpus=dream.local_node.num_gpus,
        gpu_memory_bytes=int(dream.gpu_memory_gib[LOCAL_NODE] * GIB),
        max_nodes=min(launcher.max_workers, len(launcher.provider.worker_ips)),
    )


def _check_memory_names(gpu_memory_gib: Mapping[str, float], names: list[str]) -> None:
    if sorted(gpu_memory_gib) != names:
        raise SpecError(
            "metadata.dream.gpu_memory_gib",
            sorted(gpu_memory_gib),
            "one entry for each node type with GPUs: " + ", ".join(names),
        )
