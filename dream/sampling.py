"""From logits to a token and its score: temperature, top-p, top-k, keyed draws.

Everything is float32 (draws float64) whatever the model's dtype. Order of operations as in
`sample_tokens` of the published `generation_utils.py`: temperature, top_p, top_k, softmax.
A row's result has the same bits whatever rows share the call (on a CPU).
Letters: N rows, V vocabulary, K candidates looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dream.kernels.row_stats import RowStats

__all__ = ["NO_TOP_K", "Certainty", "Drawn", "RowParams", "Score", "certainty", "certainty_of"]
__all__ += ["drawn_of", "highest_few", "largest", "log_mass", "row_sum", "sample", "sample_mean"]
__all__ += ["width_of"]

WIDTHS = (128, 1024, 8192)
"""How many of the largest logits filters look at before a whole row is sorted."""

NO_TOP_K = 2**40
"""A top_k that keeps every token."""

BLOCK, WIDE_BLOCK = 32, 256
"""Ids of which the largest logit is looked at first: where many are wanted, and one."""

Score = Callable[[Tensor, Tensor], Tensor]
"""(probs_NK, index_N of the drawn candidate) -> scores_N, higher is surer."""


class RowParams(NamedTuple):
    """Parameters of N rows that share a sampler; None switches a stage off for all.

    temperature_N > 0; uniform_N in (0, 1) draws a token, None takes the most probable;
    top_p_N (1 is off) and top_k_N (NO_TOP_K is off) come together.
    """

    temperature_N: Tensor | None = None
    uniform_N: Tensor | None = None
    top_p_N: Tensor | None = None
    top_k_N: Tensor | None = None

    def take(self, rows: Tensor | slice) -> RowParams:
        """The parameters of some rows."""
        return RowParams(*(None if x is None else x[rows] for x in self))


class Certainty(NamedTuple):
    """Of each row's raw distribution: its largest probability, and its entropy in nats."""

    top_probs_N: Tensor
    entropies_N: Tensor


class Drawn(NamedTuple):
    """One token for each row, its probability in the row's distribution, and its score.

    is_open_N: rows whose filters have to look at more of the logits; the rest is void there.
    """

    token_ids_N: Tensor
    probs_N: Tensor
    scores_N: Tensor
    is_open_N: Tensor


def width_of(top_p: float | None, top_k: int | None) -> int:
    """How many of the largest logits these filters are to look at; 0 without any.

    By the request alone, so that its tokens do not depend on others.
    """
    if top_k is None:
        return 0 if top_p is None or top_p >= 1 else WIDTHS[0]
    return next((width for width in WIDTHS if top_k < width), WIDTHS[-1])


def sample(logits_NV: Tensor, params: RowParams, score: Score, width: int) -> Drawn:
    """Draw a token a row from its tempered and filtered distribution, and score it.

    Overwrites the logits. Filters look at the `width` largest of them; the runner draws open
    rows again with V.
    """
    if params.temperature_N is not None:
        logits_NV.div_(params.temperature_N[:, None])
    if params.top_p_N is not None and params.top_k_N is not None:
        return _sample_filtered(logits_NV, params, score, width)
    highest_N, index_N = _highest(logits_NV)
    weights_NV = logits_NV.sub_(highest_N[:, None]).exp_()
    probs_NV = weights_NV.div_(row_sum(weights_NV)[:, None])
    if params.uniform_N is not None:
        index_N = _inverse_cdf(probs_NV, params.uniform_N)
    return _scored(probs_NV, index_N, None, score)


def certainty(logits_NV: Tensor) -> Certainty:
    """How sure each row is, whatever the temperature and the filters: what commit rules look at."""
    shifted_NV = logits_NV - logits_NV.amax(-1, keepdim=True)
    weights_NV = shifted_NV.exp()
    mass_N = row_sum(weights_NV)
    mean_N = row_sum(shifted_NV.clamp_(min=-1e4).mul_(weights_NV)) / mass_N
    return Certainty(1 / mass_N, (mass_N.log() - mean_N).clamp(min=0))


def certainty_of(stats: RowStats) -> Certainty:
    """The same, from statistics of the raw rows."""
    return Certainty(stats.top_probs_N, stats.entropy_N)


def drawn_of(stats: RowStats, scores_N: Tensor) -> Drawn:
    """The most probable token of each row, for rows without temperature and filters."""
    is_open_N = torch.zeros_like(stats.index_N, dtype=torch.bool)
    return Drawn(stats.index_N, stats.top_probs_N, scores_N, is_open_N)


def sample_mean(ids_NDV: Tensor, probs_NDV: Tensor, score: Score) -> Drawn:
    """The best token of the mean of D distributions a row, each given by its V largest entries.

    p(v) = mean over the steps of p_t(v); what a step leaves out counts as 0, and a step whose
    entries are all 0 is not there (contextual decoding, CCD: arXiv 2512.02044).
    """
    num_steps_N = (probs_NDV.amax(-1) > 0).sum(-1)
    ids_NK, order_NK = ids_NDV.flatten(1).sort(stable=True, dim=-1)
    probs_NK = probs_NDV.flatten(1).gather(1, order_NK)
    is_same_NKK = ids_NK[:, :, None] == ids_NK[:, None, :]
    sums_NK = (probs_NK[:, None, :] * is_same_NKK).sum(-1) / num_steps_N[:, None]
    is_first_NK = F.pad(ids_NK[:, 1:] != ids_NK[:, :-1], (1, 0), value=True)
    mean_NK = sums_NK * is_first_NK
    index_N = mean_NK.max(-1).indices
    token_ids_N = ids_NK.gather(1, index_N[:, None])[:, 0]
    probs_N = mean_NK.gather(1, index_N[:, None])[:, 0]
    is_open_N = torch.zeros_like(token_ids_N, dtype=torch.bool)
    return Drawn(token_ids_N, probs_N, score(mean_NK, index_N), is_open_N)


def row_sum(x_NV: Tensor) -> Tensor:
    """Sum of each row; torch would split the sum of a single row over its threads."""
    return x_NV.sum(-1) if len(x_NV) > 1 else x_NV.expand(2, -1).sum(-1)[:1]


def _scored(probs_NK: Tensor, index_N: Tensor, ids_NK: Tensor | None, score: Score) -> Drawn:
    """The drawn candidates by their ids, which are their places where None are given."""
    token_ids_N = index_N if ids_NK is None else ids_NK.gather(1, index_N[:, None])[:, 0]
    drawn_N = probs_NK.gather(1, index_N[:, None])[:, 0]
    is_open_N = torch.zeros_like(token_ids_N, dtype=torch.bool)
    return Drawn(token_ids_N, drawn_N, score(probs_NK, index_N), is_open_N)


def _highest(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of each row and its lowest id, found block by block.

    A maximum without its place is vectorised on a CPU; one with its place is not.
    """
    if logits_NV.shape[1] % WIDE_BLOCK:
        return logits_NV.max(-1)
    in_blocks = logits_NV.view(len(logits_NV), -1, WIDE_BLOCK)
    block_N = in_blocks.amax(-1).max(-1).indices
    rows_N = torch.arange(len(logits_NV), device=logits_NV.device)
    values_N, places_N = in_blocks[rows_N, block_N].max(-1)
    return values_N, block_N * WIDE_BLOCK + places_N


def _inverse_cdf(probs_NK: Tensor, uniform_N: Tensor) -> Tensor:
    cdf_NK = probs_NK.double().cumsum(-1)
    total_N1 = cdf_NK[:, -1:]
    below_total = torch.nextafter(total_N1, torch.zeros_like(total_N1))
    target_N1 = torch.minimum(uniform_N[:, None] * total_N1, below_total)
    index_N = torch.searchsorted(cdf_NK, target_N1, right=True)[:, 0]
    return index_N.clamp(max=cdf_NK.shape[1] - 1)  # NaN sorts last; the engine refuses it


def _sample_filtered(logits_NV: Tensor, params: RowParams, score: Score, width: int) -> Drawn:
    """Sample among the `width` largest logits, and overwrite them all."""
    assert params.top_p_N is not None
    assert params.top_k_N is not None
    values, ids = largest(logits_NV, width)
    probs = (values - log_mass(logits_NV, values[:, 0])[:, None]).exp()
    # Source order: drop a token when the mass before it exceeds top_p; then all below the k-th.
    mass_before = F.pad(probs.cumsum(-1)[:, :-1], (1, 0))
    is_kept = (params.top_p_N >= 1)[:, None] | (mass_before <= params.top_p_N[:, None])
    kth = params.top_k_N.clamp(max=values.shape[1]) - 1
    is_kept &= values >= values.gather(1, kth[:, None])
    kept = torch.softmax(values.masked_fill(~is_kept, -torch.inf), -1)
    # Candidates are sorted, so the first is the most probable and of the lowest id.
    index_N = (
        torch.zeros_like(kth) if params.uniform_N is None else _inverse_cdf(kept, params.uniform_N)
    )
    drawn = _scored(kept, index_N, ids, score)
    if values.shape[1] == logits_NV.shape[1]:
        return drawn
    # Decided: the last candidate is dropped, and it does not tie with the last one kept.
    num_kept = is_kept.sum(-1, keepdim=True).clamp(min=1)  # NaN keeps none; the engine refuses it
    last_kept = values.gather(1, num_kept - 1)[:, 0]
    return drawn._replace(is_open_N=last_kept <= values[:, -1])


def largest(logits_NV: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest logits of each row and their ids: highest first, then lowest id."""
    if width >= logits_NV.shape[1]:
        values, ids = logits_NV.sort(dim=-1, descending=True, stable=True)
        return values, ids
    ids = _top_ids(logits_NV, width).sort(-1).values
    values, order = logits_NV.gather(1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def highest_few(logits_NV: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The `num` largest logits of each row and their ids, as `largest`; they become -inf there.

    For a few: the maximum of every block is found once, and again where one has been taken.
    """
    num_rows, num_ids = logits_NV.shape
    width = num_ids if num_ids % WIDE_BLOCK else WIDE_BLOCK
    in_blocks = logits_NV.view(num_rows, -1, width)
    maxima = in_blocks.amax(-1)
    rows_N = torch.arange(num_rows, device=logits_NV.device)
    values, ids = [], []
    for _ in range(num):
        block_N = maxima.max(-1).indices
        values_N, places_N = in_blocks[rows_N, block_N].max(-1)
        ids_N = block_N * width + places_N
        logits_NV.scatter_(1, ids_N[:, None], -torch.inf)
        maxima.scatter_(1, block_N[:, None], in_blocks[rows_N, block_N].amax(-1, keepdim=True))
        values.append(values_N)
        ids.append(ids_N)
    return torch.stack(values, 1), torch.stack(ids, 1)


def _top_ids(logits_NV: Tensor, width: int) -> Tensor:
    """Ids of the `width` largest logits of each row, in no order; of equal ones, any.

    They lie in the `width` blocks with the largest maxima, so that a large vocabulary is read
    once and a small part of it searched. The ids of a block lie far apart: maxima over neighbours
    would not be vectorised.
    """
    num_blocks = logits_NV.shape[1] // BLOCK
    if num_blocks < 4 * width:
        return logits_NV.topk(width, -1, sorted=False).indices
    in_blocks = logits_NV[:, : num_blocks * BLOCK].view(-1, BLOCK, num_blocks)
    blocks = in_blocks.amax(1).topk(width, -1, sorted=False).indices
    places = torch.arange(BLOCK, device=logits_NV.device) * num_blocks
    ids = (blocks[:, :, None] + places).flatten(1)
    rest = torch.arange(num_blocks * BLOCK, logits_NV.shape[1], device=logits_NV.device)
    ids = torch.cat([ids, rest.expand(len(ids), -1)], 1)
    return ids.gather(1, logits_NV.gather(1, ids).topk(width, -1, sorted=False).indices)


def log_mass(logits_NV: Tensor, highest_N: Tensor) -> Tensor:
    """log of the sum of exp(logit) of each row, whose largest is given; overwrites the logits."""
    return highest_N + row_sum(logits_NV.sub_(highest_N[:, None]).exp_()).log()
