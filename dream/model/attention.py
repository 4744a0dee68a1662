"""Bidirectional attention over packed rows: how rows form sequences, and the backends.

Letters: T packed rows, B sequences, L length of a sequence, H query heads, K key-value heads,
D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BACKENDS", "PackedLayout", "Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring sequences of one length: rows `start` to `start + num_sequences * length`."""

    start: int
    num_sequences: int
    length: int


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Which packed rows form a sequence; positions restart at 0 in each, none is empty."""

    positions_T: Tensor
    cu_seqlens: Tensor
    max_length: int
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str) -> PackedLayout:
        """Layout of sequences of these lengths (each >= 1), packed in the given order."""
        sizes = torch.tensor(lengths, dtype=torch.int32)
        ends = sizes.cumsum(0, dtype=torch.int32)
        starts = (ends - sizes).repeat_interleave(sizes)
        positions = torch.arange(int(ends[-1])) - starts
        runs: list[Run] = []
        row = 0
        for length, group in groupby(lengths):
            count = sum(1 for _ in group)
            runs.append(Run(row, count, length))
            row += count * length
        return cls(
            positions_T=positions.to(device, non_blocking=True),
            cu_seqlens=F.pad(ends, (1, 0)).to(device, non_blocking=True),
            max_length=max(lengths),
            runs=tuple(runs),
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def sdpa(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: PackedLayout) -> Tensor:
    """Full attention inside each sequence; one call for each run of equal lengths.

    Never compiled: the loop would be compiled anew for every layout.
    """
    groups = q_THD.shape[1] // k_TKD.shape[1]
    k_THD = k_TKD.repeat_interleave(groups, dim=1)
    v_THD = v_TKD.repeat_interleave(groups, dim=1)
    sizes = [run.num_sequences * run.length for run in layout.runs]
    parts = (torch.split(x_THD, sizes) for x_THD in (q_THD, k_THD, v_THD))
    outputs: list[Tensor] = []
    for run, *qkv in zip(layout.runs, *parts, strict=True):
        shape = (run.num_sequences, run.length)
        q, k, v = (rows.unflatten(0, shape).transpose(1, 2) for rows in qkv)
        out_BHLD = F.scaled_dot_product_attention(q, k, v)
        outputs.append(out_BHLD.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def varlen(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: PackedLayout) -> Tensor:
    """Full attention inside each sequence by torch's variable-length kernel (CUDA, 16 bit)."""
    seqlens, longest = layout.cu_seqlens, layout.max_length
    kernel = _varlen_kernel()
    out_THD: Tensor = kernel(q_THD, k_TKD, v_TKD, seqlens, seqlens, longest, longest)
    return out_THD


@cache
def _varlen_kernel() -> Callable[..., Tensor]:
    """The kernel with what newer torch wants: grouped heads, one split for batch invariance."""
    kernel: Callable[..., Tensor] = import_module("torch.nn.attention.varlen").varlen_attn
    wanted = {"enable_gqa": True, "num_splits": 1}
    known = inspect.signature(kernel).parameters
    return partial(kernel, **{name: value for name, value in wanted.items() if name in known})


Attention = Callable[[Tensor, Tensor, Tensor, PackedLayout], Tensor]

BACKENDS: dict[str, Attention] = {"sdpa": sdpa, "varlen": varlen}
