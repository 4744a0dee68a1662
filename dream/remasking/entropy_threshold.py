"""entropy_threshold: every mask whose distribution is narrow enough (arXiv 2601.07568)."""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_entropy_threshold"]


def within_entropy_threshold(ranked: Ranked, threshold_N: Tensor) -> Tensor:
    """Rows with entropy < threshold, in nats [N]."""
    return ranked.entropies_N < threshold_N
