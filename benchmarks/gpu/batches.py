"""Many requests at once: windows, long prompts, several tokens a forward, drawn tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch

from benchmarks.gpu.bench import NO_TIME, PEAK, Bench, Budget
from benchmarks.gpu.model import requests
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.speed import tokens_per_s
from benchmarks.stage_clock import StageClock, Stages
from dream import Engine

__all__ = ["batches", "draws", "prompts"]

COMMITS = (1, 2, 4)
DRAWS: dict[str, dict[str, object]] = {
    "greedy": {},
    "drawn": {"temperature": 0.2},
    "drawn with top_p": {"temperature": 0.2, "top_p": 0.95},
    "drawn with top_p and top_k": {"temperature": 0.2, "top_p": 0.95, "top_k": 50},
}


def batches(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Requests in windows, more and more at once, at one, two and four tokens a forward."""
    size = bench.size
    cases = [(number, size.prompt, n) for number, n in product(size.batches, COMMITS)]
    yield from _windows(bench, budget, cases)


def prompts(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """The same for longer prompts: one request, and as many as in the smallest batch."""
    size = bench.size
    cases = product((1, size.batches[0]), size.long_prompts, COMMITS)
    yield from _windows(bench, budget, list(cases))


@torch.inference_mode()
def draws(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """A step's time by how tokens are drawn, from peaked logits and from flat ones."""
    size, head = bench.size, bench.network.lm_head.weight
    rows = max(row for row in size.step_rows if row <= 2048)
    mode = bench.best_mode
    engine = bench.engine(mode, rows=rows)
    for kind, factor in (("peaked", PEAK), ("flat", 1 / PEAK)):
        head.mul_(factor)
        for name, params in DRAWS.items():
            what = f"step of {rows} rows, {name}, {kind} logits"
            if budget.left_s:
                yield replace(_drawing(bench, engine, rows, what, params), mode=mode)
            else:
                yield skipped(what, NO_TIME, mode)


def _windows(bench: Bench, budget: Budget, cases: list[tuple[int, int, int]]) -> Iterator[Finding]:
    """Tokens/s of each case: requests, tokens of a prompt, tokens a forward."""
    size, mode = bench.size, bench.best_mode
    longest = max(number * (prompt + size.canvas) for number, prompt, _ in cases)
    engine = bench.engine(mode, rows=min(longest, 8192), cache_tokens=longest)
    for place, (number, prompt, commits) in enumerate(cases):
        what = f"windows, {number} requests, prompt {prompt}, {commits} tokens a forward"
        if not budget.left_s:
            yield skipped(what, NO_TIME, mode)
            continue
        rule = {} if commits == 1 else {"threshold": 0.0, "max_commits": commits}
        params = {"window": "dual", "block_length": size.block, **rule}
        wanted = requests(size, number, prompt=prompt, holes=size.canvas, **params)
        most_s = budget.left_s / (len(cases) - place)
        tokens_per_s(engine, wanted, most_s / 3)
        value = tokens_per_s(engine, wanted, most_s / 2)
        yield Finding(what=what, value=value, unit="tokens/s", mode=mode)


def _drawing(
    bench: Bench, engine: Engine, rows: int, what: str, params: dict[str, object]
) -> Finding:
    length = bench.size.step_length
    half = length // 2
    wanted = requests(bench.size, rows // length, prompt=half, holes=half, **params)
    for request in wanted:
        engine.add(request)
    for _ in range(2):
        engine.step()
    clock, sums, count = StageClock(engine), Stages(), 5
    for _ in range(count):
        sums += clock.step()
    for request in wanted:
        engine.abort(request.id)
    detail = {"commit": 1000 * sums.commit / count, "head": 1000 * sums.head / count}
    return Finding(what=what, value=1000 * sums.step / count, unit="ms", detail=detail)
