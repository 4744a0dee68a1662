"""entropy_bound: as many masks as are nearly independent (EB-sampler, arXiv 2505.24857).

For the joint error of a set U that is filled at once, sum_U H - max_U H is an upper bound, in nats.
"""

from __future__ import annotations

from torch import Tensor

from dream.remasking.base import Ranked

__all__ = ["within_entropy_bound"]


def within_entropy_bound(ranked: Ranked, bound_N: Tensor) -> Tensor:
    """Rows of the longest ranked prefix whose bound holds [N]; it never falls along the ranking."""
    sums_N, largest_N = ranked.running_sum_and_max(ranked.entropies_N)
    return sums_N - largest_N <= bound_N
