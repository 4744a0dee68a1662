"""How likely a target is after a prefix: the Monte-Carlo estimate of Dream's own evaluation.

Letters: M noisy copies, S scored positions, U distinct copies, L tokens of a sequence,
N masked positions of some copies, E hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.errors import EngineError, InvalidRequest
from dream.kernels.row_stats import row_stats
from dream.model.attention import PackedLayout
from dream.model.device import on_device
from dream.model.modeling import DreamModel
from dream.sampling import row_sum

__all__ = [
    "Estimate",
    "LikelihoodParams",
    "Noise",
    "draw_noise",
    "estimate_log_likelihood",
    "scored_positions",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodParams:
    """How the estimate is drawn; InvalidRequest names a field that is wrong.

    mc_num: noisy copies of the target. batch_size: copies whose noise levels are spread evenly
    together; it divides mc_num, and None spreads all of them. eps: the least noise level.
    seed: key of all noise, 0 <= seed < 2**63.
    """

    mc_num: int = 128
    batch_size: int | None = None
    eps: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        _integer("mc_num", self.mc_num, 1, 2**16)
        _integer("seed", self.seed, 0, 2**63 - 1)
        if self.batch_size is not None:
            _integer("batch_size", self.batch_size, 1, self.mc_num)
            if self.mc_num % self.batch_size:
                allowed = f"None or a divisor of mc_num={self.mc_num}"
                raise InvalidRequest("batch_size", self.batch_size, allowed)
        is_number = isinstance(self.eps, int | float) and not isinstance(self.eps, bool)
        if not is_number or not 0 < self.eps < 1:
            raise InvalidRequest("eps", self.eps, "a number in (0, 1)")


class Noise(NamedTuple):
    """Which scored positions each copy masks, and the probability it masked them with."""

    is_masked_MS: NDArray[np.bool_]
    p_mask_M: NDArray[np.float64]


class Estimate(NamedTuple):
    """log p(target | prefix) in nats, and how many copies went through the model for it."""

    log_likelihood: float
    forward_passes: int


def scored_positions(num_prefix: int, num_target: int) -> range:
    """Positions that noise may mask: the target without the sequence's first and last token."""
    return range(max(num_prefix, 1), num_prefix + num_target - 1)


def draw_noise(num_scored: int, params: LikelihoodParams) -> Noise:
    """Masks of all copies, from Philox keyed by the seed alone.

    In each batch of b copies u ~ U(0, 1), t_j = (u + j / b) mod 1 (arXiv 2107.00630, I.1), and
    copy j masks each position independently with probability (1 - eps) * t_j + eps.
    """
    random = np.random.Generator(np.random.Philox(key=params.seed))
    size = params.batch_size or params.mc_num
    starts = random.random((params.mc_num // size, 1))
    times_M = ((starts + np.arange(size) / size) % 1.0).ravel()
    p_mask_M = (1.0 - params.eps) * times_M + params.eps
    is_masked_MS = random.random((params.mc_num, num_scored)) < p_mask_M[:, None]
    return Noise(is_masked_MS, p_mask_M)


def estimate_log_likelihood(
    model: DreamModel,
    prefix_ids: Sequence[int],
    target_ids: Sequence[int],
    params: LikelihoodParams,
    *,
    max_rows: int,
    max_logit_rows: int,
) -> Estimate:
    """Minus the mean over copies of sum(cross-entropy / p_mask) over their masked positions.

    Source: `_forward_process` and `_eval_target_nll_mc` (log_type "ftb") of eval/eval.py in
    DreamLM/Dream. Row i - 1 predicts position i (Dream's shift). What is masked is kept in a
    bitmap, where the source compares with the mask id. The last token is given and not scored:
    a target that is to be whole ends with an EOS. Copies without a mask cost nothing, and
    copies with equal masks run once. One forward has at most `max_rows` rows (or one copy),
    and logits exist for `max_logit_rows` rows at a time; neither changes the result.
    """
    scored = scored_positions(len(prefix_ids), len(target_ids))
    if not scored:
        allowed = "tokens to score between the first and the last of the sequence: end with an EOS"
        raise InvalidRequest("target", list(target_ids), allowed)
    masks_US, weights_U = _distinct(draw_noise(len(scored), params))
    ids_L = np.array([*prefix_ids, *target_ids], np.int64)
    losses = [np.zeros(0)]
    for copies in _chunks(len(masks_US), max(1, max_rows // len(ids_L))):
        is_masked_UL = np.zeros((copies.stop - copies.start, len(ids_L)), np.bool_)
        is_masked_UL[:, scored.start : scored.stop] = masks_US[copies]
        with on_device(model.device):
            losses.append(_cross_entropy(model, ids_L, is_masked_UL, max_logit_rows))
    loss_N = np.concatenate(losses)
    if not np.isfinite(loss_N).all():
        raise EngineError("the model's probabilities are not finite: check the weights")
    total = float(loss_N @ weights_U.repeat(masks_US.sum(1)))
    return Estimate(-total / params.mc_num, len(masks_US))


def _distinct(noise: Noise) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The different masks that mask something, and the sum of 1 / p_mask over their copies."""
    is_used_M = noise.is_masked_MS.any(1)
    masks_US, mask_of_M = np.unique(noise.is_masked_MS[is_used_M], axis=0, return_inverse=True)
    weights_U = np.zeros(len(masks_US))
    np.add.at(weights_U, mask_of_M.ravel(), 1.0 / noise.p_mask_M[is_used_M])
    return masks_US, weights_U


@torch.inference_mode()
def _cross_entropy(
    model: DreamModel,
    ids_L: NDArray[np.int64],
    is_masked_UL: NDArray[np.bool_],
    max_logit_rows: int,
) -> NDArray[np.float64]:
    """Loss [N] of every masked position, copy by copy, positions ascending; float32 scores."""
    num_copies, length = is_masked_UL.shape
    noisy_UL = np.where(is_masked_UL, model.config.mask_token_id, ids_L)
    copies_N, positions_N = is_masked_UL.nonzero()
    rows_N = torch.from_numpy(copies_N * length + positions_N - 1).to(model.device)
    layout = PackedLayout.of([length] * num_copies, model.device)
    layout = layout.wanting(rows_N, is_masked_UL.sum(1).tolist())
    hidden_NE: Tensor = model(torch.from_numpy(noisy_UL).ravel().to(model.device), layout)
    target_N = torch.from_numpy(ids_L[positions_N]).to(model.device)
    losses = [
        _loss(model.logits(hidden_NE[rows]), target_N[rows])
        for rows in _chunks(len(rows_N), max_logit_rows)
    ]
    return torch.cat(losses).cpu().numpy().astype(np.float64)


def _loss(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """-log softmax(logits)[target], overwriting the logits; a CPU's bits do not depend on N."""
    if logits_NV.device.type == "cuda":
        return -row_stats(logits_NV, target_N).chosen_log_probs_N
    logits_NV = logits_NV.float()
    logits_NV -= logits_NV.amax(-1, keepdim=True)
    target_logit_N = logits_NV.gather(1, target_N[:, None])[:, 0]
    return row_sum(logits_NV.exp_()).log() - target_logit_N


def _chunks(num_rows: int, size: int) -> Iterator[slice]:
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def _integer(field: str, value: int, low: int, high: int) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not low <= value <= high:
        raise InvalidRequest(field, value, f"an integer {low}..{high}")
