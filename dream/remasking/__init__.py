"""Remasking strategies: which masked positions become tokens at a step.

To add one: a file with a class that has `plan` and `score`, and a line in STRATEGIES.
"""

from dream.params import Alg
from dream.remasking.base import Commit, Strategy, choose
from dream.remasking.confidence import SCORES, Confidence
from dream.remasking.origin import Origin

__all__ = ["STRATEGIES", "Commit", "Strategy", "choose"]

STRATEGIES: dict[Alg, Strategy] = {
    "origin": Origin(),
    "maskgit_plus": Confidence(SCORES["maskgit_plus"]),
    "topk_margin": Confidence(SCORES["topk_margin"]),
    "entropy": Confidence(SCORES["entropy"]),
}
