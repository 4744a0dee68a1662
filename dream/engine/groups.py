"""How candidate rows are sampled and ranked: by which sampler, and the parameters of each row.

Letters: N candidate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dream.canvas import Canvas
from dream.engine.staging import Upload
from dream.noise import Purpose, uniforms
from dream.remasking import score_of
from dream.sampling import NO_TOP_K, RowParams, Score, width_of

__all__ = ["Group", "SamplerKey", "group_rows", "rank_terms"]


class SamplerKey(NamedTuple):
    """How a row is sampled; rows with equal keys go through the sampler together.

    width: how many of the largest logits the filters look at; 0 without filters.
    has_logprobs: whether log-probabilities are wanted; they change no token.
    """

    keeps_keys: bool
    alg: str
    is_drawn: bool
    width: int
    is_ruled: bool
    is_annealed: bool
    history: int
    history_top: int
    has_logprobs: bool

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken, and scored as it is."""
        return not (self.is_drawn or self.width or self.is_annealed or self.history)

    @classmethod
    def of(cls, canvas: Canvas) -> SamplerKey:
        """The key of a canvas's rows at its next step."""
        plan, params = canvas.step_plan, canvas.step_plan.params
        return cls(
            params.window is not None,
            plan.alg,
            params.temperature > 0,
            width_of(params.top_p, params.top_k),
            params.rule is not None,
            params.eos_annealing is not None,
            params.history,
            params.history_top if params.history else 0,
            canvas.request.logprobs is not None,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring candidate rows of one key, with their parameters on the device.

    eos_divisors_N: what the EOS logits are divided by for the score. slots_N: where the history of
    each row is kept.
    """

    rows: slice
    key: SamplerKey
    score: Score
    params: RowParams
    eos_divisors_N: Tensor | None
    slots_N: Tensor | None


def group_rows(
    keys: Sequence[SamplerKey], canvases: Sequence[Canvas], upload: Upload
) -> list[Group]:
    """A group for all neighbouring canvases of one key."""
    groups: list[Group] = []
    start = 0
    for key, pairs in groupby(zip(keys, canvases, strict=True), key=lambda pair: pair[0]):
        members = [canvas for _, canvas in pairs]
        sizes = [len(canvas.step_plan.candidates) for canvas in members]
        rows = slice(start, start + sum(sizes))
        groups.append(_group(rows, key, members, np.array(sizes), upload))
        start = rows.stop
    return groups


def rank_terms(canvas: Canvas) -> tuple[float, NDArray[np.float64]]:
    """(scale, shift) that turn a score into the rank of each candidate.

    alg_temp > 0 takes the top k of score / alg_temp + Gumbel noise, which equals drawing
    without replacement from softmax(score / alg_temp). An order other than confidence ranks by
    position, or by noise, alone.
    """
    params, positions = canvas.step_plan.params, canvas.step_plan.candidates
    if params.order == "left_to_right":
        return 0.0, -positions.astype(np.float64)
    if params.order == "right_to_left":
        return 0.0, positions.astype(np.float64)
    if params.order == "random":
        return 0.0, _noise(canvas, Purpose.ORDER)
    if params.alg_temp:
        return 1.0 / params.alg_temp, -np.log(-np.log(_noise(canvas, Purpose.ORDER)))
    return 1.0, np.zeros(len(positions))


def _group(
    rows: slice,
    key: SamplerKey,
    members: Sequence[Canvas],
    sizes: NDArray[np.int64],
    upload: Upload,
) -> Group:
    divisors = slots = None
    if key.is_annealed:
        divisors = upload(np.repeat(np.array([_divisor(c) for c in members], np.float32), sizes))
    if key.history:
        kept = [_slots(canvas)[canvas.step_plan.candidates] for canvas in members]
        slots = upload(np.concatenate(kept))
    params = _row_params(key, members, sizes, upload)
    return Group(rows, key, score_of(key.alg), params, divisors, slots)


def _row_params(
    key: SamplerKey, members: Sequence[Canvas], sizes: NDArray[np.int64], upload: Upload
) -> RowParams:
    params = [canvas.step_plan.params for canvas in members]

    def spread(values: list[float] | list[int], dtype: type[np.generic]) -> Tensor:
        return upload(np.repeat(np.array(values, dtype), sizes))

    temperature = uniform = top_p = top_k = None
    if key.is_drawn:
        temperature = spread([p.temperature for p in params], np.float32)
        uniform = upload(np.concatenate([_noise(canvas, Purpose.TOKEN) for canvas in members]))
    if key.width:
        top_p = spread([1.0 if p.top_p is None else p.top_p for p in params], np.float32)
        top_k = spread([p.top_k or NO_TOP_K for p in params], np.int64)
    return RowParams(temperature, uniform, top_p, top_k)


def _noise(canvas: Canvas, purpose: Purpose) -> NDArray[np.float64]:
    plan = canvas.step_plan
    return uniforms(plan.params.seed or 0, purpose, plan.scheduled.step, plan.candidates)


def _divisor(canvas: Canvas) -> float:
    """From `eos_annealing` at the first step to 1 at the last, linearly."""
    first = canvas.step_plan.params.eos_annealing
    assert first is not None
    return 1 + (first - 1) * (1 - canvas.step_plan.scheduled.step / max(1, canvas.steps - 1))


def _slots(canvas: Canvas) -> NDArray[np.int64]:
    assert canvas.slots is not None, "a canvas with a history runs once it has slots"
    return canvas.slots
