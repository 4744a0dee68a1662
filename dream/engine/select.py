"""Which of a step's tokens are committed: those that rank first, or as many as a rule allows.

Letters: N candidate rows, C committed rows, R requests.
"""

from __future__ import annotations

from torch import Tensor

from dream.engine.batch import Batch, RuleBatch
from dream.engine.sampled import Sampled
from dream.remasking import Commit, Ranked, apply_rules, stable_order
from dream.sampling import Certainty

__all__ = ["select"]


def select(sampled: Sampled, batch: Batch, eos_ids: Tensor) -> Commit:
    """Choose what is committed."""
    drawn, sure = sampled.drawn, sampled.sure
    ranks_N = drawn.scores_N.double() * batch.rank_scale_N + batch.rank_shift_N
    order_N = stable_order(ranks_N, batch.keys_N)
    counts_R = forced_R = None
    if batch.rules is not None:
        is_eos_N = (drawn.token_ids_N[:, None] == eos_ids).any(-1)
        is_barred_N = is_eos_N & batch.rules.is_far_N
        order_N, counts_R, forced_R = _by_rules(order_N, sure, is_barred_N, batch.rules)
    rows_C = order_N[batch.picks_C]
    tokens_C, probs_C = drawn.token_ids_N[rows_C], drawn.probs_N[rows_C]
    return Commit(rows_C, tokens_C, probs_C, counts_R, forced_R)


def _by_rules(
    order_N: Tensor, sure: Certainty, is_barred_N: Tensor, rules: RuleBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """The order in which rows commit under the rules, and counts and forced commits [R]."""
    rows = (*sure, rules.owners_N, rules.starts_N, rules.mask_segments_N)
    ranked = Ranked(*(values_N[order_N] for values_N in rows))
    again_N, counts_R, forced_R = apply_rules(
        ranked, rules.is_eligible_N[order_N], is_barred_N[order_N], rules.limits
    )
    return order_N[again_N], counts_R, forced_R
