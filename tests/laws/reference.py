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
"""(step, logits of each position, candidates, whether it is the last scheduled step) -> picks."""

Commits = list[tuple[int, dict[int, int]]]
"""For each scheduled step its number, and the token of each position that it filled."""


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
    """Every scheduled step of a request of one priority, each filling its best picks.

    first: what the first step fills. What a step falls short of is for the next ones.
    """
    canvas, found, owed = given_tokens(wanted), Commits(), 0
    scheduled = timetable(wanted)
    for place, (step, count) in enumerate(scheduled):
        owed += count
        filled = first if first and not place else None
        if filled is None:
            candidates = eligible(wanted, canvas, max(owed, 1))
            picks = choose(step, predictions(canvas), candidates, place == len(scheduled) - 1)
            filled = best(wanted, canvas, picks, owed)
        for position, token in filled.items():
            canvas[position] = token
        owed -= len(filled)
        found.append((step, filled))
        if not masks(canvas):
            break
    return found


def timetable(wanted: Request) -> list[tuple[int, int]]:
    """(step, count) of each; under a commit rule every step is one."""
    num_masked = wanted.template.num_masked
    num_steps = wanted.params.steps or num_masked
    counts = dict(commit_counts(num_masked, num_steps, wanted.params.eps))
    visited = counts if wanted.params.rule is None else range(num_steps)
    return [(step, counts.get(step, 0)) for step in visited]


def eligible(wanted: Request, canvas: Sequence[int | None], count: int) -> list[int]:
    """Masks of the lowest classes that hold `count` masks together."""
    classes = classes_of(wanted, canvas)
    last = sorted(classes.values())[min(count, len(classes)) - 1]
    return [position for position in classes if classes[position] <= last]


def classes_of(wanted: Request, canvas: Sequence[int | None]) -> dict[int, int]:
    """Which masks go first: block by block, or those within the frontier and then one by one."""
    numbers = {position: n for n, position in enumerate(masks(given_tokens(wanted)))}
    left, own = masks(canvas), wanted.params
    if own.frontier is not None:
        end = numbers[left[0]] + own.frontier
        return {position: max(0, numbers[position] - end + 1) for position in left}
    return {position: numbers[position] // (own.block_length or 2048) for position in left}


def best(
    wanted: Request, canvas: Sequence[int | None], picks: dict[int, Pick], owed: int
) -> dict[int, int]:
    """Tokens by class, then score, then place, in position order; those that wait are left out.

    A threshold looks at the scores of the lowest class, as `maskgit_plus` has them.
    """
    classes, count = classes_of(wanted, canvas), owed
    if wanted.params.threshold is not None:
        lowest = [pick for p, pick in picks.items() if classes[p] == min(classes.values())]
        count = max(owed, 1, sum(pick.score >= wanted.params.threshold for pick in lowest))
    free = [position for position, pick in picks.items() if not pick.is_barred]
    chosen = sorted(free, key=lambda p: (classes[p], -picks[p].score, p))[:count]
    return {position: picks[position].token for position in sorted(chosen)}


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
