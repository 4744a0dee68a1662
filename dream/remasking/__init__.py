"""Remasking strategies: which masked positions become tokens at a step.

To add one: a file with a class that has `plan` and `score`, its name in `dream.params.Alg`, and a
line in STRATEGIES.
"""

from typing import cast

from dream.params import Alg
from dream.remasking.base import Commit, Ranked, Strategy, stable_order
from dream.remasking.confidence import OF_STATS, SCORES, Confidence
from dream.remasking.origin import Origin
from dream.remasking.rules import RULES, RuleLimits, apply_rules
from dream.sampling import Score

__all__ = [
    "OF_STATS",
    "RULES",
    "STRATEGIES",
    "Commit",
    "Ranked",
    "RuleLimits",
    "Strategy",
    "apply_rules",
]
__all__ += ["score_of", "stable_order"]

STRATEGIES: dict[Alg, Strategy] = {
    "origin": Origin(),
    "maskgit_plus": Confidence(SCORES["maskgit_plus"]),
    "maskgit_tpp": Confidence(SCORES["maskgit_tpp"]),
    "topk_margin": Confidence(SCORES["topk_margin"]),
    "entropy": Confidence(SCORES["entropy"]),
}


def score_of(name: str) -> Score:
    """The score of an `alg`, or of the first commit under EGI."""
    return SCORES[name] if name == "egi" else STRATEGIES[cast("Alg", name)].score
