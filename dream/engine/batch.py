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
from dream.remasking import STRATEGIES
from dream.remasking.base import places
from dream.sampling import RowParams, Score

__all__ = ["Batch", "Form", "Group", "collate"]


class Form(NamedTuple):
    """How a row is sampled; rows of one form go through the sampler together."""

    alg: Alg
    is_drawn: bool
    is_filtered: bool

    @classmethod
    def of(cls, params: SamplingParams) -> Form:
        """The form of a request's rows."""
        has_top_p = params.top_p is not None and params.top_p < 1
        is_filtered = has_top_p or params.top_k is not None
        return cls(params.alg, params.temperature > 0, is_filtered)


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring candidate rows of one form, with their parameters on the device."""

    rows: slice
    params: RowParams
    score: Score


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of many canvases.

    token_ids_T: packed canvases. head_rows_N: the packed row that predicts each candidate (the
    one before it: Dream's shift). rank_scale_N, rank_shift_N: rank = score * scale + shift.
    owners_N, picks_C: which candidates commit (`remasking.choose`). positions_N, spans stay on
    the host: canvas position of each candidate, and where each canvas's candidates lie.
    """

    canvases: Sequence[Canvas]
    layout: PackedLayout
    token_ids_T: Tensor
    head_rows_N: Tensor
    groups: Sequence[Group]
    rank_scale_N: Tensor
    rank_shift_N: Tensor
    owners_N: Tensor
    picks_C: Tensor
    positions_N: NDArray[np.int64]

    @property
    def counts(self) -> list[int]:
        """How many positions each canvas commits at this step."""
        return [canvas.visit.count for canvas in self.canvases]


def collate(canvases: Iterable[Canvas], vocab_size: int, device: str) -> Batch:
    """Pack canvases: rows of one form together, in it equal lengths together."""
    ordered = sorted(canvases, key=lambda c: (Form.of(c.request.params), len(c)))
    lengths = [len(canvas) for canvas in ordered]
    starts = np.cumsum([0, *lengths[:-1]])
    candidates = [canvas.candidates for canvas in ordered]
    sizes = [len(positions) for positions in candidates]
    head_rows = [start + np.maximum(c - 1, 0) for start, c in zip(starts, candidates, strict=True)]
    ranks = [_rank_terms(canvas, c) for canvas, c in zip(ordered, candidates, strict=True)]

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
        owners_N=upload(np.repeat(np.arange(len(ordered)), sizes)),
        picks_C=places(sizes, [canvas.visit.count for canvas in ordered]).to(device),
        positions_N=np.concatenate(candidates),
    )


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
        groups.append(Group(slice(start, start + size), on_device, STRATEGIES[form.alg].score))
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
