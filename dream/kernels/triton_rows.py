"""The Triton kernel behind `row_stats`. Imported only where Triton is there.

Letters: N rows, V vocabulary, L lanes of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.errors import TritonError

__all__ = ["triton_row_stats"]

LANES, WARPS = 2048, 8
"""Logits that a program looks at together; a row is read in such chunks."""

FLOOR = tl.constexpr(-1e30)
"""Stands for -inf: differences of it are numbers, and exp of them is 0."""


def triton_row_stats(logits_NV: Tensor, ids_N: Tensor | None = None) -> tuple[Tensor, ...]:
    """The fields of `RowStats`, in one pass; one program for each row, so that none sees others.

    RuntimeError where Triton cannot compile or start it on this device.
    """
    num_rows, num_ids = logits_NV.shape
    assert logits_NV.stride(1) == 1
    values = logits_NV.new_empty((5, num_rows), dtype=torch.float32)
    index_N = logits_NV.new_empty(num_rows, dtype=torch.int64)
    highest_N, second_N, mass_N, entropy_N, chosen_N = values
    try:
        _row_stats[(num_rows,)](
            logits_NV,
            index_N if ids_N is None else ids_N,
            highest_N,
            second_N,
            index_N,
            mass_N,
            entropy_N,
            chosen_N,
            logits_NV.stride(0),
            HAS_IDS=ids_N is not None,
            V=num_ids,
            L=LANES,
            num_warps=WARPS,
        )
    except TritonError as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return highest_N, second_N, index_N, mass_N, entropy_N, chosen_N


@triton.jit
def _row_stats(
    logits: tl.tensor,
    ids: tl.tensor,
    highest: tl.tensor,
    second: tl.tensor,
    index: tl.tensor,
    mass: tl.tensor,
    entropy: tl.tensor,
    chosen: tl.tensor,
    stride: int,
    HAS_IDS: tl.constexpr,
    V: tl.constexpr,
    L: tl.constexpr,
) -> None:
    """Each lane keeps its own running sums; they are joined once, at the end of the row."""
    row = tl.program_id(0).to(tl.int64)
    lanes_L = tl.arange(0, L)
    top_L = tl.full((L,), FLOOR, tl.float32)
    next_L = tl.full((L,), FLOOR, tl.float32)
    where_L = tl.full((L,), V, tl.int32)
    sum_L = tl.zeros((L,), tl.float32)
    shift_L = tl.zeros((L,), tl.float32)  # sum of (logit - top) * exp(logit - top)
    for start in tl.range(0, V, L, num_stages=3):
        at_L = start + lanes_L
        x_L = tl.load(logits + row * stride + at_L, mask=at_L < V, other=float("-inf"))
        x_L = x_L.to(tl.float32)
        x_L = tl.where(x_L < FLOOR, FLOOR, x_L)
        is_new_L = x_L > top_L
        gap_L = x_L - top_L
        factor_L = tl.exp(-tl.abs(gap_L))
        shift_L = tl.where(
            is_new_L, (shift_L - gap_L * sum_L) * factor_L, shift_L + gap_L * factor_L
        )
        sum_L = tl.where(is_new_L, sum_L * factor_L + 1, sum_L + factor_L)
        next_L = tl.where(is_new_L, top_L, tl.maximum(next_L, x_L))
        where_L = tl.where(is_new_L, at_L, where_L)
        top_L = tl.where(is_new_L, x_L, top_L)
    top = tl.max(top_L, 0)
    best = tl.min(tl.where(top_L == top, where_L, V), 0)
    runner_up = tl.max(tl.where(where_L == best, next_L, top_L), 0)
    gap_L = top_L - top
    factor_L = tl.exp(gap_L)
    total = tl.sum(sum_L * factor_L, 0)
    mean = tl.sum((shift_L + gap_L * sum_L) * factor_L, 0) / total
    best = tl.minimum(best, V - 1)
    tl.store(highest + row, top)
    tl.store(second + row, tl.where(runner_up <= FLOOR, float("-inf"), runner_up))
    tl.store(index + row, best.to(tl.int64))
    tl.store(mass + row, total)
    tl.store(entropy + row, tl.maximum(tl.log(total) - mean, 0.0))
    token = tl.load(ids + row) if HAS_IDS else best.to(tl.int64)
    tl.store(chosen + row, tl.load(logits + row * stride + token).to(tl.float32))
