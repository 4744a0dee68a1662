"""How much memory an engine takes, known before a weight is read; too much is refused.

Letters: E hidden width, I width of the MLP, K width of all keys of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dream.engine.config import WHOLE_ROWS, EngineConfig
from dream.errors import MemoryExceeded
from dream.model.config import DreamConfig
from dream.model.loader import DTYPES
from dream.params import MAX_HISTORY, MAX_HISTORY_TOP

__all__ = ["MemoryPlan", "available_memory", "check", "host_memory", "plan"]

LOGIT_COPIES = 6
"""Float32 copies of a row's logits in the dearest form of sampling a chunk: an annealed score
beside a drawn token, whose running sum is float64. A CPU holds the copies of a slice alone."""

WHOLE_COPIES = 14
"""The same for the few rows at a time that a filter leaves undecided, which are sorted whole."""

HISTORY_ENTRY = 12
"""Bytes of an id and its probability (`dream.engine.history`)."""

ROW_BYTES = 256
"""Ids, positions and ranks of a packed row, on the device."""

SLACK = {"cuda": 1.25, "cpu": 2.0}
"""Bytes that the allocator holds for each that is in use; glibc's heap had 1.2 to 1.9, measured."""

CUDA_RESERVE = 512 * 2**20
"""Kernels and cuBLAS workspaces, which come with the first forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Most bytes that one process of an engine holds at a time, by what they are for."""

    weights: int
    activations: int
    logits: int
    cache: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.logits + self.cache

    def __str__(self) -> str:
        parts = {"weights": self.weights, "activations": self.activations}
        parts |= {"logits": self.logits, "cache": self.cache}
        told = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items())
        return f"{_gib(self.total)} ({told})"


def plan(shape: DreamConfig, config: EngineConfig) -> MemoryPlan:
    """What an engine of this shape takes; a canvas above max_num_batched_tokens runs alone."""
    context = min(config.max_model_len, shape.max_position_embeddings)
    itemsize = DTYPES[config.dtype].itemsize
    logit_rows = LOGIT_COPIES * config.max_logit_rows
    logit_rows += WHOLE_COPIES * min(WHOLE_ROWS, config.max_logit_rows)
    lowered = 0 if itemsize == 4 else itemsize * config.max_logit_rows
    slack = SLACK.get(torch.device(config.device).type, max(SLACK.values()))
    rows = max(config.max_num_batched_tokens, context)
    return MemoryPlan(
        weights=_num_weights(shape, config.tensor_parallel) * itemsize,
        activations=int(rows * _row_bytes(shape, config) * slack),
        logits=shape.vocab_size * (4 * logit_rows + lowered),
        cache=config.max_cache_tokens * _kept_row_bytes(shape, config),
    )


def check(shape: DreamConfig, config: EngineConfig, available: int | None) -> MemoryPlan:
    """The plan, or MemoryExceeded with the largest values that would fit; None bounds nothing."""
    wanted = plan(shape, config)
    if available is None or wanted.total <= available:
        return wanted
    fits = _fitting(shape, config, available)
    needed = f"the plan needs {wanted}, and {_gib(available)} are free"
    if not fits:
        raise MemoryExceeded("device", config.device, f"one with more memory: {needed}", fits)
    field = next(iter(fits))
    at_most = " and ".join(f"{name} {value}" for name, value in fits.items())
    raise MemoryExceeded(field, getattr(config, field), f"at most {at_most}: {needed}", fits)


def available_memory(device: str) -> int | None:
    """Bytes that may still be taken on a device; None where nothing tells."""
    kind = torch.device(device).type
    if kind == "cuda":
        return max(0, torch.cuda.mem_get_info(device)[0] - CUDA_RESERVE)
    return host_memory() if kind == "cpu" else None


def host_memory(root: Path = Path("/")) -> int | None:
    """Free bytes of the host or of the tightest control group around this process.

    Source: proc(5), and the kernel's cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    found = [*_free_in_meminfo(root / "proc/meminfo"), *_free_in_cgroups(root)]
    return max(0, min(found)) if found else None


def _fitting(shape: DreamConfig, config: EngineConfig, available: int) -> dict[str, int]:
    """One option that suffices and the most it may be, or else several; empty where none does."""
    now, context = plan(shape, config), min(config.max_model_len, shape.max_position_embeddings)
    dearest = sorted(
        [
            (now.cache, "max_cache_tokens", 0),
            (now.logits, "max_logit_rows", 1),
            (
                now.activations,
                "max_num_batched_tokens",
                min(context, config.max_num_batched_tokens),
            ),
        ],
        reverse=True,
    )
    for _, name, least in dearest:
        value = _largest(shape, config, available, name, least)
        if value is not None:
            return {name: value}
    fits: dict[str, int] = {}
    for _, name, least in dearest:
        value = _largest(shape, config, available, name, least)
        fits[name] = least if value is None else value
        if value is not None:
            return fits
        config = _with(config, name, least)
    return {}


def _largest(
    shape: DreamConfig, config: EngineConfig, available: int, name: str, least: int
) -> int | None:
    """The largest value of one option from `least` up with which the plan fits, by bisection."""

    def is_fit(value: int) -> bool:
        return plan(shape, _with(config, name, value)).total <= available

    low, high = least, getattr(config, name)
    if not is_fit(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_fit(middle) else (low, middle - 1)
    return low


def _with(config: EngineConfig, name: str, value: int) -> EngineConfig:
    return EngineConfig(**asdict(config) | {name: value})


def _num_weights(shape: DreamConfig, degree: int) -> int:
    """Parameters of one process: norms, biases of rows and the embedding are whole everywhere."""
    width, inner = shape.hidden_size, shape.intermediate_size
    kv_width = shape.num_key_value_heads * shape.head_dim
    attention = (width + 1) * (width + 2 * kv_width) + width * width
    split = shape.num_hidden_layers * (attention + 3 * width * inner) + shape.vocab_size * width
    whole = shape.vocab_size * width + (2 * shape.num_hidden_layers + 1) * width
    return whole + -(-split // degree)


def _row_bytes(shape: DreamConfig, config: EngineConfig) -> int:
    """Activations of a packed row at the fullest moment of `modeling.Block`.

    Attention holds the residual, the normed row, queries, keys and values, those repeated for
    each query head, and two copies of the outcome. The MLP holds the residual before and after
    attention, the normed row, and three rows of width I. A norm works in float32.
    """
    width, degree = shape.hidden_size, config.tensor_parallel
    itemsize = DTYPES[config.dtype].itemsize
    inner = -(-shape.intermediate_size // degree)
    attention = 3 * width + (5 * width + 2 * shape.num_key_value_heads * shape.head_dim) // degree
    mlp = 4 * width + 3 * inner
    norm = 2 * width * itemsize + 3 * width * 4
    rotary = 2 * shape.head_dim * itemsize
    return max(max(attention, mlp) * itemsize, norm) + rotary + ROW_BYTES


def _kept_row_bytes(shape: DreamConfig, config: EngineConfig) -> int:
    """Of one row: keys and values of all layers, those of a layer as attention reads them
    (gathered, then repeated for each query head), and the history."""
    heads = -(-shape.num_key_value_heads // config.tensor_parallel)
    query_heads = -(-shape.num_attention_heads // config.tensor_parallel)
    layers = shape.num_hidden_layers * heads + heads + query_heads
    keys = 2 * layers * shape.head_dim * DTYPES[config.dtype].itemsize
    return keys + MAX_HISTORY * MAX_HISTORY_TOP * HISTORY_ENTRY


def _free_in_meminfo(path: Path) -> Iterator[int]:
    for line in _read(path).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _free_in_cgroups(root: Path) -> Iterator[int]:
    """Of each memory group from this process's own up to the mount: its limit minus its use."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            base, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = base / name.strip("/")
        for group in [own, *own.parents]:
            if group.is_relative_to(base):
                yield from _free_in_group(group, *files)


def _free_in_group(group: Path, limit: str, usage: str, idle: str) -> Iterator[int]:
    """Nothing where the group has no limit; file pages that nobody uses count as free."""
    most, used = _read(group / limit).strip(), _read(group / usage).strip()
    if not most.isdigit() or not used.isdigit():
        return
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    yield int(most) - int(used) + int(stat.get(idle, 0))


def _read(path: Path) -> str:
    """Contents of a file of the system; empty where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
