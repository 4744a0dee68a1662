"""threshold: every mask whose best token is probable enough (arXiv 2505.22618, algorithm 1)."""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_threshold"]


def within_threshold(ranked: Ranked, threshold_N: Tensor) -> Tensor:
    """Rows with p >= threshold [N]; a lower threshold gives a superset."""
    return ranked.top_probs_N >= threshold_N
