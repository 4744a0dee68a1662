"""How much memory one process of a replica takes, known before a weight is read.

This is the only such arithmetic: the engine's refusal and the plans of `cluster` come from here.
It needs no torch. Letters: E hidden width, I width of the MLP, K width of all keys of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Protocol

from dream.dtypes import DTYPE_BYTES, QUANTIZED, DType, check_unsplit, compute_dtype
from dream.errors import MemoryExceeded
from dream.params import MAX_HISTORY, MAX_HISTORY_TOP
from dream.shape import DREAM_7B, ModelShape, check_degree, valid_degrees

__all__ = ["CUDA_CONTEXT", "DREAM_7B", "DTYPE_BYTES", "GIB", "WHOLE_ROWS", "DType", "MemoryPlan"]
__all__ += ["ModelShape", "ReplicaSettings", "check", "check_degree", "gpu_budget", "plan"]
__all__ += ["valid_degrees"]

GIB = 2**30

WHOLE_ROWS = 16
"""Rows whose whole vocabulary is sorted at a time: that takes many copies of their logits."""

LOGIT_COPIES = 6
"""Float32 copies of a row's logits in the most expensive sampler: annealed scores and a drawn token
with a float64 cumulative sum. A CPU holds the copies of one slice alone. Log-probabilities need one
copy more, and such rows go half as many at a time."""

WHOLE_COPIES = 14
"""The same for the few rows at a time that a filter leaves undecided, which are sorted whole."""

HISTORY_ENTRY = 12
"""Bytes of an id and its probability (`dream.engine.history`)."""

ROW_BYTES = 256
"""Ids, positions and ranks of a packed row, on the device."""

SLACK_PERCENT = {"cuda": 125, "cpu": 200}
"""What the allocator holds of what is in use; glibc's heap had 120 to 190 percent, measured."""

WIDE_COPIES = {"int8": 0, "fp8": 8}
"""Bytes of float32 copies of a weight in 8 bits while torchao multiplies by it, beside one in the
activations' dtype."""

RESERVE = {"cuda": 512 * 2**20}
"""Left free on a device: on a GPU, kernels and cuBLAS workspaces come with the first forward."""

CUDA_CONTEXT = 512 * 2**20
"""What CUDA's context takes of a GPU before the engine asks how much is free; an estimate."""


class ReplicaSettings(Protocol):
    """The settings of an engine that decide how much memory it takes; `EngineConfig` has them."""

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def tensor_parallel(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def max_num_batched_tokens(self) -> int: ...
    @property
    def max_logit_rows(self) -> int: ...
    @property
    def max_cache_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Most bytes that one process of an engine holds at a time, by what they are for.

    reserve: what is left free for the device's own libraries.
    """

    weights: int
    activations: int
    logits: int
    cache: int
    reserve: int

    @property
    def total(self) -> int:
        """All of it: what must be free when the engine starts."""
        return self.weights + self.activations + self.logits + self.cache + self.reserve

    def __str__(self) -> str:
        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        told = ", ".join(f"{name} {_gib(size)}" for name, size in sizes.items() if size)
        return f"{_gib(self.total)} ({told})"


def plan(shape: ModelShape, settings: ReplicaSettings) -> MemoryPlan:
    """What each process takes; a canvas above max_num_batched_tokens runs alone."""
    return MemoryPlan(
        weights=_weight_bytes(shape, settings),
        activations=_activation_bytes(shape, settings, settings.max_num_batched_tokens),
        logits=_logit_bytes(shape, settings, settings.max_logit_rows),
        cache=_cache_bytes(shape, settings, settings.max_cache_tokens),
        reserve=RESERVE.get(_kind(settings), 0),
    )


def check(shape: ModelShape, settings: ReplicaSettings, free: int | None) -> MemoryPlan:
    """The plan, or MemoryExceeded with the largest values that would fit; None bounds nothing.

    InvalidRequest where the settings cannot be together.
    """
    check_unsplit(settings.dtype, settings.tensor_parallel)
    wanted = plan(shape, settings)
    if free is None or wanted.total <= free:
        return wanted
    fits = _fitting(shape, settings, free)
    needed = f"the plan needs {wanted}, and {_gib(free)} are free"
    if not fits:
        raise MemoryExceeded("device", settings.device, f"one with more memory: {needed}", fits)
    field = next(iter(fits))
    at_most = " and ".join(f"{name} {value}" for name, value in fits.items())
    raise MemoryExceeded(field, getattr(settings, field), f"at most {at_most}: {needed}", fits)


def gpu_budget(memory_bytes: int) -> int:
    """What an engine finds free on a GPU of so much memory that nobody else uses."""
    return max(0, memory_bytes - CUDA_CONTEXT)


def _fitting(shape: ModelShape, settings: ReplicaSettings, free: int) -> dict[str, int]:
    """One option that suffices and the most it may be, or else several; empty where none does."""
    now, context = plan(shape, settings), _context(shape, settings)
    canvas = min(context, settings.max_num_batched_tokens)
    costs: list[tuple[int, str, int, _Cost]] = [
        (now.cache, "max_cache_tokens", 0, partial(_cache_bytes, shape, settings)),
        (now.logits, "max_logit_rows", 1, partial(_logit_bytes, shape, settings)),
        (
            now.activations,
            "max_num_batched_tokens",
            canvas,
            partial(_activation_bytes, shape, settings),
        ),
    ]
    dearest = sorted(costs, key=lambda cost: cost[:2], reverse=True)
    excess = now.total - free
    for size, name, least, cost in dearest:
        value = _largest(cost, size - excess, least, getattr(settings, name))
        if value is not None:
            return {name: value}
    fits: dict[str, int] = {}
    for size, name, least, cost in dearest:
        value = _largest(cost, size - excess, least, getattr(settings, name))
        fits[name] = least if value is None else value
        if value is not None:
            return fits
        excess -= size - cost(least)
    return {}


_Cost = Callable[[int], int]


def _largest(cost: _Cost, budget: int, low: int, high: int) -> int | None:
    """The largest value from `low` to `high` that costs no more than the budget, by bisection."""
    if cost(low) > budget:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle - 1)
    return low


def _weight_bytes(shape: ModelShape, settings: ReplicaSettings) -> int:
    """All weights; those of the blocks' layers in 8 bits, with scales, and one as it multiplies."""
    itemsize = _itemsize(settings)
    found = _num_weights(shape, settings.tensor_parallel) * itemsize
    if settings.dtype not in QUANTIZED:
        return found
    width, inner, layers = shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers
    kv_width = shape.num_key_value_heads * shape.head_dim
    num_in_block = width * (2 * width + 2 * kv_width + 3 * inner)
    outputs = 3 * width + 2 * kv_width + 2 * inner
    multiplied = max(inner, width) * width * (itemsize + WIDE_COPIES[settings.dtype])
    return found + layers * ((1 - itemsize) * num_in_block + 4 * outputs) + multiplied


def _num_weights(shape: ModelShape, degree: int) -> int:
    """Parameters of one process, which holds all norms and the whole embedding."""
    width, inner = shape.hidden_size, shape.intermediate_size
    kv_width = shape.num_key_value_heads * shape.head_dim
    attention = (width + 1) * (width + 2 * kv_width) + width * width
    split = shape.num_hidden_layers * (attention + 3 * width * inner) + shape.vocab_size * width
    whole = shape.vocab_size * width + (2 * shape.num_hidden_layers + 1) * width
    return whole + -(-split // degree)


def _activation_bytes(shape: ModelShape, settings: ReplicaSettings, tokens: int) -> int:
    """Activations of so many packed rows at the fullest moment of `modeling.Block`.

    Attention holds the residual, the normed row, queries, keys and values, those repeated for
    each query head, and two copies of the outcome. The MLP holds the residual before and after
    attention, the normed row, and three rows of width I. A norm works in float32.
    """
    width, degree = shape.hidden_size, settings.tensor_parallel
    itemsize = _itemsize(settings)
    inner = -(-shape.intermediate_size // degree)
    attention = 3 * width + (5 * width + 2 * shape.num_key_value_heads * shape.head_dim) // degree
    mlp = 4 * width + 3 * inner
    norm = 2 * width * itemsize + 3 * width * 4
    rotary = 2 * shape.head_dim * itemsize
    row = max(max(attention, mlp) * itemsize, norm) + rotary + ROW_BYTES
    slack = SLACK_PERCENT.get(_kind(settings), max(SLACK_PERCENT.values()))
    return max(tokens, _context(shape, settings)) * row * slack // 100


def _logit_bytes(shape: ModelShape, settings: ReplicaSettings, rows: int) -> int:
    """So many rows of logits in the most expensive sampler, and as the head gives them."""
    itemsize = _itemsize(settings)
    copies = LOGIT_COPIES * rows + WHOLE_COPIES * min(WHOLE_ROWS, rows)
    return shape.vocab_size * (4 * copies + (0 if itemsize == 4 else itemsize * rows))


def _cache_bytes(shape: ModelShape, settings: ReplicaSettings, tokens: int) -> int:
    """Of so many positions: keys and values of all layers, those of a layer as attention reads
    them (gathered, then repeated for each query head), and the history."""
    heads = -(-shape.num_key_value_heads // settings.tensor_parallel)
    query_heads = -(-shape.num_attention_heads // settings.tensor_parallel)
    layers = shape.num_hidden_layers * heads + heads + query_heads
    keys = 2 * layers * shape.head_dim * _itemsize(settings)
    return tokens * (keys + MAX_HISTORY * MAX_HISTORY_TOP * HISTORY_ENTRY)


def _context(shape: ModelShape, settings: ReplicaSettings) -> int:
    return min(settings.max_model_len, shape.max_position_embeddings)


def _itemsize(settings: ReplicaSettings) -> int:
    """Bytes of an activation, and of a weight that is not in 8 bits."""
    return DTYPE_BYTES[compute_dtype(settings.dtype, settings.device)]


def _kind(settings: ReplicaSettings) -> str:
    """The kind of a torch device: `cuda` of `cuda:0`."""
    return settings.device.partition(":")[0]


def _gib(size: int) -> str:
    return f"{size / GIB:.3g} GiB"
