"""Bidirectional attention over packed rows: how rows form sequences, and the backends.

Letters: T packed rows, U packed key rows, N rows that are wanted, B sequences, H query heads,
K key-value heads, D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.model.bits import attend
from dream.model.cache import CachedRows

__all__ = ["BACKENDS", "LengthGroup", "PackedLayout", "Segments", "Wanted"]


LEAST_QUERIES = 2
"""For one query a sequence FlashAttention 2 swaps groups of heads for rows, and may split keys."""


@dataclass(frozen=True, slots=True)
class LengthGroup:
    """Neighbouring sequences with equally many queries and equally many keys."""

    num_sequences: int
    num_queries: int
    num_keys: int


@dataclass(frozen=True, slots=True)
class Segments:
    """Which packed queries and keys form a sequence; cu_* [B + 1] are int32, none is empty."""

    cu_queries: Tensor
    cu_keys: Tensor
    max_queries: int
    max_keys: int
    length_groups: tuple[LengthGroup, ...]

    @classmethod
    def of(
        cls,
        num_queries: Sequence[int],
        num_keys: Sequence[int],
        upload: Callable[[NDArray[np.generic]], Tensor],
    ) -> Segments:
        """Segments of sequences with these numbers of queries and keys (each >= 1), in order."""
        pairs = groupby(zip(num_queries, num_keys, strict=True))
        groups = tuple(LengthGroup(sum(1 for _ in same), *pair) for pair, same in pairs)
        ends = np.cumsum([[0, *num_queries], [0, *num_keys]], axis=1, dtype=np.int32)
        return cls(upload(ends[0]), upload(ends[1]), max(num_queries), max(num_keys), groups)


class Wanted(NamedTuple):
    """The rows whose result is wanted: the last layer has queries for these alone."""

    rows_N: Tensor
    segments: Segments


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """What the packed rows are: their positions, their sequences, and which are wanted.

    wanted: None for all rows. cached: the keys and values kept from earlier forwards; None where
    every row attends to the packed rows of its own sequence.
    """

    positions_T: Tensor
    segments: Segments
    wanted: Wanted | None = None
    cached: CachedRows | None = None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str) -> PackedLayout:
        """Layout of whole sequences of these lengths (each >= 1); positions restart in each."""

        def upload(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        positions = np.concatenate([np.arange(length) for length in lengths])
        return cls(upload(positions), Segments.of(lengths, lengths, upload))

    def wanting(self, rows_N: Tensor, counts: Sequence[int]) -> PackedLayout:
        """The same layout for a result of these rows: `counts` of each sequence, in order."""

        def upload(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(array).to(rows_N.device, non_blocking=True)

        groups = self.segments.length_groups
        keys = [group.num_keys for group in groups for _ in range(group.num_sequences)]
        return replace(self, wanted=Wanted(rows_N, Segments.of(counts, keys, upload)))


def sdpa(q_THD: Tensor, k_UKD: Tensor, v_UKD: Tensor, segments: Segments) -> Tensor:
    """Full attention inside each sequence; one call for each group of equal sizes."""
    heads_per_key = q_THD.shape[1] // k_UKD.shape[1]
    k_UHD = k_UKD.repeat_interleave(heads_per_key, dim=1)
    v_UHD = v_UKD.repeat_interleave(heads_per_key, dim=1)
    q_sizes = [group.num_sequences * group.num_queries for group in segments.length_groups]
    k_sizes = [group.num_sequences * group.num_keys for group in segments.length_groups]
    parts = zip(
        segments.length_groups,
        torch.split(q_THD, q_sizes),
        torch.split(k_UHD, k_sizes),
        torch.split(v_UHD, k_sizes),
        strict=True,
    )
    outputs: list[Tensor] = []
    for group, *qkv in parts:
        shape = (group.num_sequences, -1, *q_THD.shape[1:])
        q, k, v = (rows.view(shape).transpose(1, 2) for rows in qkv)
        out_BHLD = attend(q, k, v)
        outputs.append(out_BHLD.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def varlen(q_THD: Tensor, k_UKD: Tensor, v_UKD: Tensor, segments: Segments) -> Tensor:
    """Full attention inside each sequence by torch's variable-length kernel (CUDA, 16 bit)."""
    kernel = _varlen_kernel()
    out_THD: Tensor = kernel(
        q_THD,
        k_UKD,
        v_UKD,
        segments.cu_queries,
        segments.cu_keys,
        max(LEAST_QUERIES, segments.max_queries),
        segments.max_keys,
    )
    return out_THD


@cache
def _varlen_kernel() -> Callable[..., Tensor]:
    """The kernel with what newer torch wants: grouped heads, one split for batch invariance."""
    kernel: Callable[..., Tensor] = import_module("torch.nn.attention.varlen").varlen_attn
    wanted = {"enable_gqa": True, "num_splits": 1}
    known = inspect.signature(kernel).parameters
    return partial(kernel, **{name: value for name, value in wanted.items() if name in known})


Attention = Callable[[Tensor, Tensor, Tensor, Segments], Tensor]

BACKENDS: dict[str, Attention] = {"sdpa": sdpa, "varlen": varlen}
