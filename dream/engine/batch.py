"""Many canvases as one packed step: rows, layout, and the parameters of every candidate.

Letters: T packed rows, N candidate rows, R requests, C committed rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.canvas import Canvas
from dream.engine.groups import Group, SamplerKey, group_rows, rank_terms
from dream.engine.packing import content_of, pack
from dream.engine.staging import Staging, Upload
from dream.model.attention import PackedLayout
from dream.model.cache import KeyValueCache
from dream.params import SamplingParams
from dream.remasking import RuleLimits

__all__ = ["Batch", "RuleBatch", "collate", "first_of_each"]

CLASS_BITS = 40
"""Bits of a sorting key for the class of a position; the request's number is above them."""


@dataclass(frozen=True, slots=True)
class RuleBatch:
    """What commit rules need beside the ranks: see `remasking.Ranked` and `RuleLimits`.

    is_far_N: positions where an EOS may not be committed yet.
    """

    limits: RuleLimits
    owners_N: Tensor
    starts_N: Tensor
    mask_segments_N: Tensor
    is_eligible_N: Tensor
    is_far_N: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of many canvases.

    token_ids_T: packed rows. layout: their sequences, and the row that predicts each candidate
    (the one before it: Dream's shift). rank_scale_N, rank_shift_N: rank = score * scale + shift.
    keys_N: request and class of each candidate, by which they are sorted before their rank.
    picks_C: the sorted candidates that commit, or under a rule may. picked and positions_N, on the
    host: how many those are of each canvas, and the canvas position of each candidate.
    """

    canvases: Sequence[Canvas]
    token_ids_T: Tensor
    layout: PackedLayout
    groups: Sequence[Group]
    rank_scale_N: Tensor
    rank_shift_N: Tensor
    keys_N: Tensor
    picks_C: Tensor
    picked: Sequence[int]
    rules: RuleBatch | None
    positions_N: NDArray[np.int64]

    @property
    def work(self) -> tuple[int, int, int, int]:
        """Canvases, tokens, tokens in the canvases' holes, and rows of logits."""
        in_holes = sum(canvas.request.template.num_masked for canvas in self.canvases)
        return len(self.canvases), len(self.token_ids_T), in_holes, len(self.positions_N)


def collate(
    canvases: Iterable[Canvas], device: torch.device, cache: KeyValueCache | None = None
) -> Batch:
    """Pack canvases: rows of one sampler key together, in it equal lengths, then equal contents."""
    seen: dict[Hashable, int] = {}
    keyed = [
        (
            (
                SamplerKey.of(canvas),
                canvas.num_step_tokens,
                seen.setdefault(content_of(canvas), len(seen)),
            ),
            canvas,
        )
        for canvas in canvases
    ]
    keyed.sort(key=lambda pair: pair[0])
    ordered = [canvas for _, canvas in keyed]
    candidates = [canvas.step_plan.candidates for canvas in ordered]
    sizes = [len(positions) for positions in candidates]
    picked = [
        size if _counts_vary(canvas.step_plan.params) else canvas.step_plan.demand
        for canvas, size in zip(ordered, sizes, strict=True)
    ]
    ranks = [rank_terms(canvas) for canvas in ordered]
    owners_N = np.repeat(np.arange(len(ordered)), sizes)
    classes_N = np.concatenate([_classes(canvas) for canvas in ordered])
    staging = Staging(device)
    token_ids_T, layout = pack(ordered, [key[2] for key, _ in keyed], staging.put, cache)
    batch = Batch(
        canvases=ordered,
        token_ids_T=token_ids_T,
        layout=layout,
        groups=group_rows([key[0] for key, _ in keyed], ordered, staging.put),
        rank_scale_N=staging.put(np.repeat([scale for scale, _ in ranks], sizes)),
        rank_shift_N=staging.put(np.concatenate([shift for _, shift in ranks])),
        keys_N=staging.put((owners_N << CLASS_BITS) + classes_N),
        picks_C=staging.put(first_of_each(sizes, picked)),
        picked=picked,
        rules=_rules(ordered, sizes, owners_N, staging.put),
        positions_N=np.concatenate(candidates),
    )
    staging.flush()
    return batch


def first_of_each(num_candidates: Sequence[int], counts: Sequence[int]) -> NDArray[np.int64]:
    """Indices of the first `counts[r]` of each request among all sorted rows."""
    sizes, taken = np.array(num_candidates), np.array(counts)
    starts = sizes.cumsum() - sizes
    within = np.arange(taken.sum()) - np.repeat(taken.cumsum() - taken, taken)
    found: NDArray[np.int64] = np.repeat(starts, taken) + within
    return found


def _counts_vary(params: SamplingParams) -> bool:
    """Whether what commits is decided on the device."""
    return params.rule is not None or params.eos_frontier is not None


def _classes(canvas: Canvas) -> NDArray[np.int64]:
    plan = canvas.step_plan
    return np.zeros(len(plan.candidates), np.int64) if plan.classes is None else plan.classes


def _rules(
    canvases: Sequence[Canvas], sizes: Sequence[int], owners_N: NDArray[np.int64], upload: Upload
) -> RuleBatch | None:
    params = [canvas.step_plan.params for canvas in canvases]
    if not any(map(_counts_vary, params)):
        return None
    demands = [canvas.step_plan.demand for canvas in canvases]
    starts = np.cumsum([0, *sizes[:-1]])
    mask_segments, num_segments = [], 0
    for canvas in canvases:
        begins = canvas.is_masked & ~np.concatenate([[False], canvas.is_masked[:-1]])
        mask_segments.append(num_segments + begins.cumsum()[canvas.step_plan.candidates])
        num_segments += int(begins.sum()) + 1
    classes = [_classes(canvas) for canvas in canvases]
    return RuleBatch(
        RuleLimits.of(params, demands, sizes, upload),
        upload(owners_N),
        upload(np.repeat(starts, sizes)),
        upload(np.concatenate(mask_segments)),
        upload(np.concatenate([c == c.min() for c in classes])),
        upload(np.concatenate([_is_far(canvas) for canvas in canvases])),
    )


def _is_far(canvas: Canvas) -> NDArray[np.bool_]:
    """Candidates too far beyond the first one of their hole for an EOS."""
    candidates, reach = canvas.step_plan.candidates, canvas.step_plan.params.eos_frontier
    if reach is None or canvas.is_last_step:
        return np.zeros(len(candidates), np.bool_)
    holes = np.searchsorted([hole.start for hole in canvas.holes], candidates, side="right")
    _, firsts, which = np.unique(holes, return_index=True, return_inverse=True)
    far: NDArray[np.bool_] = candidates > candidates[firsts][which] + reach
    return far
