"""How left to right a row was filled: NTP@k and FMS@k of arXiv 2506.20639 (DiffuCoder).

Let p_t be the place of the t-th committed token, counted among the masked positions of the row
in canvas order, so that given text between two holes is no gap. Positions that were committed
in the same step are taken from left to right; a row filled in one step therefore counts as left
to right, and the tokens per forward pass belong beside these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ORDER_KS", "commit_order", "fms", "ntp", "order_metrics"]

ORDER_KS = (1, 2, 4)
"""The k that are reported."""

Places = NDArray[np.int64]


def commit_order(commit_steps: Sequence[int | None]) -> Places:
    """Places in the order they were committed; those an early exit filled are left out."""
    places = np.array([i for i, step in enumerate(commit_steps) if step is not None], np.int64)
    steps = np.array([step for step in commit_steps if step is not None], np.int64)
    return places[np.argsort(steps, kind="stable")]


def ntp(order: Places, k: int) -> float | None:
    """Share of t >= k with {p_(t-1), ..., p_(t-k)} = {p_t - 1, ..., p_t - k} (next token)."""
    if len(order) <= k:
        return None
    before = np.sort(np.lib.stride_tricks.sliding_window_view(order[:-1], k), axis=1)
    wanted = order[k:, None] - np.arange(k, 0, -1)
    return float((before == wanted).all(axis=1).mean())


def fms(order: Places, num_masked: int, k: int) -> float | None:
    """Share of t at which p_t is among the k leftmost places still masked (first mask)."""
    if not len(order):
        return None
    return float((_masks_to_the_left(order, num_masked) < k).mean())


def order_metrics(commit_steps: Sequence[int | None] | None) -> Mapping[str, float | None]:
    """`ntp@k` and `fms@k` of one row for every k that is reported."""
    order = commit_order(commit_steps or ())
    num_masked = len(commit_steps or ())
    found = {f"ntp@{k}": ntp(order, k) for k in ORDER_KS}
    return found | {f"fms@{k}": fms(order, num_masked, k) for k in ORDER_KS}


def _masks_to_the_left(order: Places, num_masked: int) -> Places:
    """For each t, how many places left of p_t are still masked when it is committed."""
    turn = np.full(num_masked, len(order))
    turn[order] = np.arange(len(order))
    is_left = np.arange(num_masked) < order[:, None]
    is_masked = turn > np.arange(len(order))[:, None]
    counts: Places = (is_left & is_masked).sum(axis=1)
    return counts
