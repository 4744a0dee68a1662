"""factor: the n surest masks while (n + 1)(1 - p_n) < factor (arXiv 2505.22618, section 3.3)."""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_factor"]


def within_factor(ranked: Ranked, factor_N: Tensor) -> Tensor:
    """Rows among the n surest of their request, whatever the ranking [N].

    The left side does not fall with n, so a row is in if it fulfils the condition itself.
    """
    place_N = ranked.places_by(ranked.top_probs_N) + 1
    return (place_N + 1) * (1 - ranked.top_probs_N.double()) < factor_N
