"""The official loop, plainly: padded batch, whole canvas, whole logits, one schedule a batch.

A re-implementation of `diffusion_generate` (published `generation_utils.py`) to measure against.
It shares the network's code with the engine, so the ratio is that of the loops.
Letters: B rows of the batch, L tokens of a row, V vocabulary, M masked positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dream.model.attention import PackedLayout
from dream.model.modeling import DreamModel

__all__ = ["Options", "denoise", "diffusion_generate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the loop is asked for; alg is "entropy"."""

    steps: int
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    eps: float = 1e-3


@torch.inference_mode()
def diffusion_generate(
    model: DreamModel, prompts_BP: Tensor, *, max_new_tokens: int, options: Options
) -> Tensor:
    """Token ids [B, L] after all steps, prompts of one length; everything on the model's device."""
    mask_id = model.config.mask_token_id
    x_BL = F.pad(prompts_BP.to(model.device), (0, max_new_tokens), value=mask_id)
    for step in range(options.steps):
        denoise(model, x_BL, step, options)
    return x_BL


@torch.inference_mode()
def denoise(model: DreamModel, x_BL: Tensor, step: int, options: Options) -> None:
    """One step of the loop, in place."""
    mask_id, device = model.config.mask_token_id, model.device
    rows, length = x_BL.shape
    mask_BL = x_BL == mask_id
    layout = PackedLayout.of([length] * rows, device)
    logits_BLV = model.logits(model(x_BL.flatten(), layout)).view(rows, length, -1)
    logits_BLV = torch.cat([logits_BLV[:, :1], logits_BLV[:, :-1]], dim=1)
    confidence_M, tokens_M = sample_tokens(logits_BLV[mask_BL], options)
    timesteps = torch.linspace(1, options.eps, options.steps + 1)
    share = 1 - timesteps[step + 1] / timesteps[step]
    left = mask_BL.sum() / mask_BL.shape[0]
    count = int(left * share) if step < options.steps - 1 else int(left)
    if count == 0:
        return
    full_BL = torch.full_like(x_BL, -torch.inf, dtype=confidence_M.dtype)
    full_BL[mask_BL] = confidence_M
    chosen_BC = full_BL.topk(count).indices
    drawn_BL = torch.full_like(x_BL, mask_id)
    drawn_BL[mask_BL] = tokens_M
    row_index = torch.arange(rows, device=device)[:, None].expand_as(chosen_BC)
    x_BL[row_index, chosen_BC] = drawn_BL[row_index, chosen_BC]


def sample_tokens(logits_MV: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """(negative entropy, token) of each masked position, filters by sorting the vocabulary."""
    temperature, top_p, top_k = options.temperature, options.top_p, options.top_k
    if temperature > 0:
        logits_MV = logits_MV / temperature
    if top_p is not None and top_p < 1:
        sorted_MV, order_MV = logits_MV.sort(descending=True)
        removed_MV = sorted_MV.softmax(-1).cumsum(-1) > top_p
        removed_MV[:, 1:] = removed_MV[:, :-1].clone()
        removed_MV[:, 0] = False
        dropped_MV = torch.zeros_like(removed_MV).scatter_(-1, order_MV, removed_MV)
        logits_MV = logits_MV.masked_fill(dropped_MV, torch.finfo(logits_MV.dtype).min)
    if top_k is not None:
        kth_M1 = logits_MV.topk(top_k).values[:, -1:]
        logits_MV = logits_MV.masked_fill(logits_MV < kth_M1, torch.finfo(logits_MV.dtype).min)
    probs_MV = logits_MV.softmax(-1)
    if temperature > 0:
        try:
            tokens_M = torch.distributions.Categorical(probs=probs_MV).sample()  # type: ignore[no-untyped-call]
        except ValueError:  # bfloat16 rows that do not sum to 1: the published loop goes greedy
            tokens_M = probs_MV.max(-1).indices
    else:
        tokens_M = probs_MV.max(-1).indices
    return (probs_MV * (probs_MV + 1e-10).log()).sum(-1), tokens_M
