"""low_threshold: also the surest mask of each mask segment (inclusionAI/dInfer, "hierarchy")."""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_hierarchy"]


def within_hierarchy(ranked: Ranked, threshold_N: Tensor, low_threshold_N: Tensor) -> Tensor:
    """Rows with p >= threshold, and of each mask segment the surest if p > low [N].

    Tokens between two segments are given or filled, so the segments depend little on one another.
    """
    is_best_N = ranked.is_best_of_segment(ranked.top_probs_N)
    is_sure_N = ranked.top_probs_N >= threshold_N
    return is_sure_N | (is_best_N & (ranked.top_probs_N > low_threshold_N))
