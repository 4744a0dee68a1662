"""low_threshold: also the surest mask of each run of masks (inclusionAI/dInfer, "hierarchy")."""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_hierarchy"]


def within_hierarchy(ranked: Ranked, threshold_N: Tensor, low_threshold_N: Tensor) -> Tensor:
    """Rows with p >= threshold, and of each run of neighbouring masks the surest if p > low [N].

    Tokens between two runs are given or filled, so the runs depend little on one another.
    """
    is_best_N = ranked.is_best_of_run(ranked.top_probs_N)
    is_sure_N = ranked.top_probs_N >= threshold_N
    return is_sure_N | (is_best_N & (ranked.top_probs_N > low_threshold_N))
