"""A slow decoder for tests: one canvas, dense forwards, plain loops over positions and ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from dream import Engine, Request, StepEvent
from dream.model.attention import PackedLayout
from dream.timetable import commit_counts
from tests.models import MASK, golden_model

ALGS = ("maskgit_plus", "maskgit_tpp", "topk_margin", "entropy")


class Pick(NamedTuple):
    """What a position would become, how sure that is, and whether it has to wait."""

    token: int
    score: float
    is_barred: bool = False


Choose = Callable[[int, torch.Tensor, Sequence[int], bool], dict[int, Pick]]
"""(step, logits of each position, candidates, whether it is the last visit) -> picks."""

Commits = list[tuple[int, dict[int, int]]]
"""For each visit its step, and the token of each position that it filled."""


def run(engine: Engine, *wanted: Request) -> tuple[dict[str, list[StepEvent]], dict]:
    """Every event and the completion of each request, which all arrive at once."""
    events: dict[str, list[StepEvent]] = {request.id: [] for request in wanted}
    for request in wanted:
        engine.add(request)
    while engine.has_work:
        for event in engine.step():
            events[event.request_id].append(event)
    return events, {done.id: done for done in engine.collect()}


def commits(events: Sequence[StepEvent]) -> Commits:
    """Events as the reference tells them."""
    return [(e.step, dict(zip(e.positions, e.token_ids, strict=True))) for e in events]


def given_tokens(wanted: Request) -> list[int | None]:
    """The canvas before the first step; None is a mask."""
    canvas: list[int | None] = []
    for segment in wanted.template.segments:
        ids = getattr(segment, "token_ids", None)
        canvas += [None] * segment.num_tokens if ids is None else ids
    return canvas


def masks(canvas: Sequence[int | None]) -> list[int]:
    return [position for position, token in enumerate(canvas) if token is None]


@torch.inference_mode()
def predictions(canvas: Sequence[int | None]) -> torch.Tensor:
    """Logits of each position, float64: row i - 1 predicts position i, and the mask id is out."""
    ids = torch.tensor([MASK if token is None else token for token in canvas])
    model = golden_model()
    logits = model.logits(model(ids, PackedLayout.of([len(ids)], "cpu"))).double()
    logits[:, MASK] = -torch.inf
    return logits[[0, *range(len(ids) - 1)]]


def decoded(wanted: Request, choose: Choose, first: dict[int, int] | None = None) -> Commits:
    """Every visit of a request of one priority without commit rule, each filling its best picks.

    first: what the first visit fills. What a visit falls short of is for the next ones.
    """
    canvas, found, owed = given_tokens(wanted), Commits(), 0
    visits = timetable(wanted)
    for place, (step, count) in enumerate(visits):
        owed += count
        filled = first if first and not place else None
        if filled is None:
            candidates = eligible(wanted, canvas, owed)
            picks = choose(step, predictions(canvas), candidates, place == len(visits) - 1)
            filled = {position: picks[position].token for position in best(wanted, picks, owed)}
        for position, token in filled.items():
            canvas[position] = token
        owed -= len(filled)
        found.append((step, dict(sorted(filled.items()))))
    return found


def timetable(wanted: Request) -> Sequence[tuple[int, int]]:
    num_masked = wanted.template.num_masked
    return commit_counts(num_masked, wanted.params.steps or num_masked, wanted.params.eps)


def eligible(wanted: Request, canvas: Sequence[int | None], count: int) -> list[int]:
    """Masks of the first unfinished block, and of so many more as hold `count` masks together."""
    left = masks(canvas)
    blocks = block_of(wanted)
    last = blocks[left[min(count, len(left)) - 1]]
    return [position for position in left if blocks[position] <= last]


def block_of(wanted: Request) -> dict[int, int]:
    size = wanted.params.block_length or 2048
    return {position: n // size for n, position in enumerate(masks(given_tokens(wanted)))}


def best(wanted: Request, picks: dict[int, Pick], count: int) -> list[int]:
    """Positions by block, then score, then place; those that wait are left out."""
    blocks = block_of(wanted)
    free = [position for position, pick in picks.items() if not pick.is_barred]
    return sorted(free, key=lambda p: (blocks[p], -picks[p].score, p))[:count]


def score_of(alg: str, probs: torch.Tensor, token: int) -> float:
    """How sure a distribution over all ids is, by the published formulas."""
    highest = probs.sort(descending=True).values
    if alg == "maskgit_plus":
        return float(probs[token])
    if alg == "maskgit_tpp":
        return float(highest[0])
    if alg == "topk_margin":
        return float(highest[0] - highest[1])
    return float((probs * (probs + 1e-10).log()).sum())


def greedy(alg: str) -> Choose:
    """The most probable token of each candidate."""

    def choose(
        step: int, logits: torch.Tensor, candidates: Sequence[int], is_last: bool
    ) -> dict[int, Pick]:
        rows = ((p, logits[p].softmax(-1), int(logits[p].argmax())) for p in candidates)
        return {p: Pick(token, score_of(alg, probs, token)) for p, probs, token in rows}

    return choose


def replayed(wanted: Request, events: Sequence[StepEvent]) -> Iterator[tuple[list, StepEvent]]:
    """Each event with the canvas that it found."""
    canvas = given_tokens(wanted)
    for event in events:
        yield list(canvas), event
        for position, token in zip(event.positions, event.token_ids, strict=True):
            canvas[position] = token


def filtered(logits: torch.Tensor, top_p: float | None) -> torch.Tensor:
    """The distribution of the ids before which the sorted mass is at most top_p."""
    probs, ids = logits.softmax(-1).sort(descending=True, stable=True)
    before = probs.cumsum(-1) - probs
    is_kept = before <= (1.0 if top_p is None else top_p)
    kept = torch.zeros_like(logits).scatter(0, ids[is_kept], probs[is_kept])
    return kept / kept.sum()


def entropy(probs: torch.Tensor) -> float:
    return float(-np.nansum((probs * probs.log()).numpy()))
