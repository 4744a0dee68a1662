"""Many canvases as one packed step: rows, layout, and the parameters of every candidate.

Letters: T packed rows, N candidate rows, R requests, C committed rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.canvas import Canvas
from dream.model.attention import PackedLayout
from dream.noise import Purpose, uniforms
from dream.params import Alg, SamplingParams
from dream.remasking import STRATEGIES, RuleLimits
from dream.remasking.base import places
from dream.sampling import RowParams, Score

__all__ = ["Batch", "Form", "Group", "RuleBatch", "collate"]

CLASS_BITS = 40
"""Bits of a sorting key for the class of a position; the request's number is above them."""


class Form(NamedTuple):
    """How a row is sampled; rows of one form go through the sampler together."""

    alg: Alg
    is_drawn: bool
    is_filtered: bool
    is_ruled: bool

    @classmethod
    def of(cls, params: SamplingParams) -> Form:
        """The form of a request's rows."""
        has_top_p = params.top_p is not None and params.top_p < 1
        is_filtered = has_top_p or params.top_k is not None
        return cls(params.alg, params.temperature > 0, is_filtered, params.rule is not None)


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring candidate rows of one form, with their parameters on the device."""

    rows: slice
    params: RowParams
    score: Score
    is_ruled: bool


@dataclass(frozen=True, slots=True)
class RuleBatch:
    """What commit rules need beside the ranks: see `remasking.Ranked` and `RuleLimits`."""

    limits: RuleLimits
    owners_N: Tensor
    starts_N: Tensor
    runs_N: Tensor
    is_eligible_N: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of many canvases.

    token_ids_T: packed canvases. head_rows_N: the packed row that predicts each candidate (the
    one before it: Dream's shift). rank_scale_N, rank_shift_N: rank = score * scale + shift.
    keys_N: request and class of each candidate, by which they are sorted before their rank.
    picks_C: the sorted candidates that commit, or under a rule may. picked and positions_N, on the
    host: how many those are of each canvas, and the canvas position of each candidate.
    """

    canvases: Sequence[Canvas]
    layout: PackedLayout
    token_ids_T: Tensor
    head_rows_N: Tensor
    groups: Sequence[Group]
    rank_scale_N: Tensor
    rank_shift_N: Tensor
    keys_N: Tensor
    picks_C: Tensor
    picked: Sequence[int]
    rules: RuleBatch | None
    positions_N: NDArray[np.int64]


def collate(canvases: Iterable[Canvas], vocab_size: int, device: str) -> Batch:
    """Pack canvases: rows of one form together, in it equal lengths together."""
    ordered = sorted(canvases, key=lambda c: (Form.of(c.request.params), len(c)))
    lengths = [len(canvas) for canvas in ordered]
    starts = np.cumsum([0, *lengths[:-1]])
    candidates = [canvas.candidates for canvas in ordered]
    sizes = [len(positions) for positions in candidates]
    head_rows = [start + np.maximum(c - 1, 0) for start, c in zip(starts, candidates, strict=True)]
    ranks = [_rank_terms(canvas, c) for canvas, c in zip(ordered, candidates, strict=True)]
    classes = [_classes(canvas, size) for canvas, size in zip(ordered, sizes, strict=True)]
    owners_N = np.repeat(np.arange(len(ordered)), sizes)
    picked = [
        canvas.demand if canvas.request.params.rule is None else size
        for canvas, size in zip(ordered, sizes, strict=True)
    ]

    def upload(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Batch(
        canvases=ordered,
        layout=PackedLayout.of(lengths, device),
        token_ids_T=upload(np.concatenate([canvas.token_ids for canvas in ordered])),
        head_rows_N=upload(np.concatenate(head_rows)),
        groups=_groups(ordered, candidates, vocab_size, device),
        rank_scale_N=upload(np.repeat([scale for scale, _ in ranks], sizes)),
        rank_shift_N=upload(np.concatenate([shift for _, shift in ranks])),
        keys_N=upload((owners_N << CLASS_BITS) + np.concatenate(classes)),
        picks_C=places(sizes, picked).to(device),
        picked=picked,
        rules=_rules(ordered, candidates, classes, device),
        positions_N=np.concatenate(candidates),
    )


def _classes(canvas: Canvas, size: int) -> NDArray[np.int64]:
    classes = canvas.classes
    return np.zeros(size, np.int64) if classes is None else classes


def _rules(
    canvases: Sequence[Canvas],
    candidates: Sequence[NDArray[np.int64]],
    classes: Sequence[NDArray[np.int64]],
    device: str,
) -> RuleBatch | None:
    sizes = [len(positions) for positions in candidates]
    params = [canvas.request.params for canvas in canvases]
    limits = RuleLimits.of(params, [canvas.demand for canvas in canvases], sizes, device)
    if limits is None:
        return None
    starts = np.cumsum([0, *sizes[:-1]])
    begins = [np.diff(positions, prepend=-2) != 1 for positions in candidates]
    arrays = (
        np.repeat(np.arange(len(canvases)), sizes),
        np.repeat(starts, sizes),
        np.concatenate(begins).cumsum(),
        np.concatenate([c == c.min() for c in classes]),
    )
    return RuleBatch(limits, *(torch.from_numpy(array).to(device) for array in arrays))


def _rank_terms(canvas: Canvas, positions: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """(scale, shift) that turn a score into the rank of each candidate.

    alg_temp > 0 takes the top k of score / alg_temp + Gumbel noise, which equals drawing
    without replacement from softmax(score / alg_temp). An order other than confidence ranks by
    position, or by noise, alone.
    """
    params, step = canvas.request.params, canvas.visit.step
    if params.order == "left_to_right":
        return 0.0, -positions.astype(np.float64)
    if params.order == "right_to_left":
        return 0.0, positions.astype(np.float64)
    if params.order == "random":
        return 0.0, uniforms(params.seed or 0, Purpose.ORDER, step, positions)
    if params.alg_temp:
        noise = uniforms(params.seed or 0, Purpose.ORDER, step, positions)
        return 1.0 / params.alg_temp, -np.log(-np.log(noise))
    return 1.0, np.zeros(len(positions))


def _groups(
    canvases: Sequence[Canvas],
    candidates: Sequence[NDArray[np.int64]],
    vocab_size: int,
    device: str,
) -> list[Group]:
    groups: list[Group] = []
    start = 0
    pairs = zip(canvases, candidates, strict=True)
    for form, members in groupby(pairs, key=lambda pair: Form.of(pair[0].request.params)):
        rows = list(members)
        size = sum(len(positions) for _, positions in rows)
        params = _row_params(form, rows, vocab_size)
        on_device = RowParams(*(None if p is None else p.to(device) for p in params))
        groups.append(
            Group(slice(start, start + size), on_device, STRATEGIES[form.alg].score, form.is_ruled)
        )
        start += size
    return groups


def _row_params(
    form: Form, rows: Sequence[tuple[Canvas, NDArray[np.int64]]], vocab_size: int
) -> RowParams:
    sizes = torch.tensor([len(positions) for _, positions in rows])
    params = [canvas.request.params for canvas, _ in rows]

    def spread(values: list[float] | list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).repeat_interleave(sizes)

    temperature = uniform = top_p = top_k = None
    if form.is_drawn:
        temperature = spread([p.temperature for p in params], torch.float32)
        uniform = torch.from_numpy(np.concatenate([_token_noise(*row) for row in rows]))
    if form.is_filtered:
        top_p = spread([1.0 if p.top_p is None else p.top_p for p in params], torch.float32)
        top_k = spread([min(p.top_k or vocab_size, vocab_size) for p in params], torch.int64)
    return RowParams(temperature, uniform, top_p, top_k)


def _token_noise(canvas: Canvas, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    seed = canvas.request.params.seed or 0
    return uniforms(seed, Purpose.TOKEN, canvas.visit.step, positions)
