"""Commit rules: how many of the ranked masks may become tokens at a step.

To add one: a function of `Ranked` and its limits; a field of its name in the group RULES of
`dream.params`; its name in `RULE_FIELDS`; and a line in RULES here. NaN means that a request does
not have the rule: comparisons with NaN are false.

Letters: N candidate rows, ranked; R requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.params import SamplingParams
from dream.remasking.base import Ranked, stable_order

__all__ = ["RULES", "RuleLimits", "apply_rules"]


def within_threshold(ranked: Ranked, threshold_N: Tensor) -> Tensor:
    """Rows with p >= threshold [N] (arXiv 2505.22618, algorithm 1)."""
    return ranked.top_probs_N >= threshold_N


def within_hierarchy(ranked: Ranked, threshold_N: Tensor, low_threshold_N: Tensor) -> Tensor:
    """Rows with p >= threshold, and of each mask segment the surest if p > low [N].

    Tokens between two segments are given or filled, so the segments depend little on one another
    (inclusionAI/dInfer, "hierarchy").
    """
    is_best_N = ranked.is_best_of_segment(ranked.top_probs_N)
    is_sure_N = ranked.top_probs_N >= threshold_N
    return is_sure_N | (is_best_N & (ranked.top_probs_N > low_threshold_N))


def within_factor(ranked: Ranked, factor_N: Tensor) -> Tensor:
    """The n surest rows of each request while (n + 1)(1 - p_n) < factor [N].

    The left side does not fall with n, so a row is in if it meets the condition itself
    (arXiv 2505.22618, section 3.3).
    """
    place_N = ranked.places_by(ranked.top_probs_N) + 1
    return (place_N + 1) * (1 - ranked.top_probs_N.double()) < factor_N


def within_entropy_bound(ranked: Ranked, bound_N: Tensor) -> Tensor:
    """Rows of the longest ranked prefix U with sum_U H - max_U H <= bound, in nats [N].

    The left side bounds the joint error of filling U at once, and never falls along the ranking
    (EB-sampler, arXiv 2505.24857).
    """
    sums_N, largest_N = ranked.running_sum_and_max(ranked.entropies_N)
    return sums_N - largest_N <= bound_N


def within_entropy_threshold(ranked: Ranked, threshold_N: Tensor) -> Tensor:
    """Rows with entropy < threshold, in nats [N] (arXiv 2601.07568)."""
    return ranked.entropies_N < threshold_N


class Rule(NamedTuple):
    """The rows that may commit together, and the fields of SamplingParams that limit them."""

    within: Callable[..., Tensor]
    fields: tuple[str, ...]


RULES: dict[str, Rule] = {
    "threshold": Rule(within_threshold, ("threshold",)),
    "low_threshold": Rule(within_hierarchy, ("threshold", "low_threshold")),
    "factor": Rule(within_factor, ("factor",)),
    "entropy_bound": Rule(within_entropy_bound, ("entropy_bound",)),
    "entropy_threshold": Rule(within_entropy_threshold, ("entropy_threshold",)),
}


class RuleLimits(NamedTuple):
    """What the rules of a batch need for each request; the device's.

    limits: for each rule in use, its limits [R], NaN for requests without it.
    demands_R: commits the timetable asks for; fewest_R, most_R: bounds of what a rule commits.
    sizes_R: candidates.
    """

    limits: dict[str, tuple[Tensor, ...]]
    demands_R: Tensor
    fewest_R: Tensor
    most_R: Tensor
    sizes_R: Tensor

    @classmethod
    def of(
        cls,
        params: Sequence[SamplingParams],
        demands: Sequence[int],
        sizes: Sequence[int],
        upload: Callable[[NDArray[np.generic]], Tensor],
    ) -> RuleLimits:
        """A request without a rule commits what it demands."""
        limits = {
            name: tuple(
                upload(np.array([getattr(p, f) if p.rule == name else np.nan for p in params]))
                for f in RULES[name].fields
            )
            for name in dict.fromkeys(p.rule for p in params if p.rule is not None)
        }
        fewest = [0 if p.rule is None else p.min_commits for p in params]
        most = [max(sizes) if p.max_commits is None else p.max_commits for p in params]
        return cls(limits, *upload(np.array([demands, fewest, most, sizes])))


def apply_rules(
    ranked: Ranked, is_eligible_N: Tensor, is_barred_N: Tensor, limits: RuleLimits
) -> tuple[Tensor, Tensor, Tensor]:
    """Order of the ranked rows by who commits first, and counts and forced commits [R].

    Rows that a rule allows go first, the others after them as they are ranked, and last those
    that are barred. Of these commit what the rule allows within its bounds, and no fewer than
    the timetable demands, as far as they are not barred.
    """
    top_probs_N = torch.where(is_eligible_N, ranked.top_probs_N, -1)
    ranked = ranked._replace(top_probs_N=top_probs_N)
    is_within_N = torch.zeros_like(is_eligible_N)
    for name, values in limits.limits.items():
        is_within_N |= RULES[name].within(ranked, *(value[ranked.owners_N] for value in values))
    is_within_N &= is_eligible_N & ~is_barred_N
    order_N = stable_order(is_within_N.to(torch.int8) - is_barred_N.to(torch.int8), ranked.owners_N)
    zeros_R = torch.zeros_like(limits.demands_R)
    allowed_R = zeros_R.index_add(0, ranked.owners_N, is_within_N.long())
    free_R = limits.sizes_R - zeros_R.index_add(0, ranked.owners_N, is_barred_N.long())
    ruled_R = torch.minimum(torch.maximum(allowed_R, limits.fewest_R), limits.most_R)
    counts_R = torch.minimum(torch.maximum(ruled_R, limits.demands_R), free_R)
    forced_R = (counts_R - allowed_R).clamp(min=0) * (limits.fewest_R > 0)
    return order_N, counts_R, forced_R
