"""Dream's training objective: which tokens are masked, and what each of them weighs.

Letters: L tokens of a row, T packed tokens of a batch, V vocabulary.
The loss of a batch is the sum over its masked tokens of w * CE, divided by their number, with
CE taken from the logits one position earlier (Dream's shift).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dream.errors import InvalidRequest

__all__ = ["LEAST_NOISE", "TimeWeight", "cart_weights", "draw_mask", "focal", "token_weights"]
__all__ += ["shifted_cross_entropy"]

TimeWeight = Literal["original", "linear", "cart", "none"]

LEAST_NOISE = 0.05
"""Smallest share t of tokens that a row masks on average; t is uniform from here to 1."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def draw_mask(rng: np.random.Generator, maskable_L: Bools) -> tuple[Bools, float]:
    """Mask every maskable token with probability t, t ~ U(.05, 1); at least one of them."""
    t = float(rng.uniform(LEAST_NOISE, 1.0))
    is_masked_L = maskable_L & (rng.random(len(maskable_L)) < t)
    if not is_masked_L.any():
        is_masked_L[rng.choice(np.flatnonzero(maskable_L))] = True
    return is_masked_L, t


def token_weights(kind: TimeWeight, is_masked_L: Bools, t: float, *, cart_p: float) -> Floats:
    """Weight of every token of a row; 0 where nothing is masked.

    original: 1/t, the weight of the evidence bound. linear: 1 - t (arXiv 2410.14157).
    cart: context-adaptive, see `cart_weights`; none: 1.
    """
    if kind not in get_args(TimeWeight):
        raise InvalidRequest("time_weight", kind, "one of " + ", ".join(get_args(TimeWeight)))
    if kind == "cart":
        return cart_weights(is_masked_L, cart_p)
    scale = {"original": 1 / t, "linear": 1 - t, "none": 1.0}[kind]
    return np.where(is_masked_L, np.float32(scale), np.float32(0))


def cart_weights(is_masked_L: Bools, p: float) -> Floats:
    """CART: w_i = sum over visible j of (1/2) p (1-p)^(|i-j|-1), for masked i (Dream 7B).

    Computed by one recurrence from each side: with d = 1 - p and v_j = 1 for a visible token,
    left_i = v_{i-1} + d left_{i-1}, and w_i = p/2 (left_i + right_i).
    """
    if not 0 < p <= 1:
        raise InvalidRequest("cart_p", p, "a probability above 0 and at most 1")
    visible = (~is_masked_L).astype(np.float64)
    weights = np.zeros(len(visible))
    for direction in (slice(None), slice(None, None, -1)):
        reached = 0.0
        side = weights[direction]
        for index, is_visible in enumerate(visible[direction]):
            side[index] += reached
            reached = is_visible + (1 - p) * reached
    return np.where(is_masked_L, 0.5 * p * weights, 0).astype(np.float32)


def focal(loss_N: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal reweighting a (1 - e^-CE)^g CE: tokens the model is sure of count less."""
    return alpha * (1 - torch.exp(-loss_N)) ** gamma * loss_N


def shifted_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy [N] in float32; logits are those of the rows before the targets."""
    return F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
