"""One request at a time and whole steps by their rows, in each mode of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, replace

import torch

from benchmarks.gpu.bench import ALONE, NEEDS_CUDA, NO_TIME, Bench, Budget
from benchmarks.gpu.model import requests
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.speed import alone_tokens_per_s
from benchmarks.gpu.timing import is_cuda
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling, step_flop
from benchmarks.stage_clock import StageClock, Stages
from dream import Engine, EngineConfig, Request
from dream.memory import plan

__all__ = ["invariant", "of_mode", "step_requests"]

REPEATS = 20


def of_mode(mode: str, bench: Bench, budget: Budget) -> Iterator[Finding]:
    """One exact request, one in windows, then steps from few rows to many."""
    if bench.lacks(mode):
        yield skipped("one request, and steps", NEEDS_CUDA, mode)
        return
    rows = max(bench.size.step_rows)
    engine = bench.engine(mode, rows=rows, cache_tokens=bench.cache_tokens)
    rates = bench.rates
    for finding in _of_engine(bench, engine, rates, budget):
        yield replace(finding, mode=mode)


def invariant(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """What EngineConfig(batch_invariant=True) costs one exact request and a step, eager."""
    if "batch_invariant" not in {field.name for field in fields(EngineConfig)}:
        yield skipped("cost of batch_invariant", "this engine has no such setting")
        return
    rows = 2048 if bench.size.has_goals else max(bench.size.step_rows)
    config = bench.config(rows=rows)
    found: dict[bool, tuple[float, float]] = {}
    for is_on in (False, True):
        option: dict[str, object] = {"batch_invariant": is_on}
        engine = Engine(bench.network, None, replace(config, **option))  # type: ignore[arg-type]
        tokens_per_s = alone_tokens_per_s(bench, engine, budget.left_s / 3)
        sums, _, count = _stages(bench, engine, rows, budget)
        found[is_on] = tokens_per_s, sums.step / count
        mode = f"batch_invariant={is_on}"
        yield Finding(what=ALONE, value=tokens_per_s, unit="tokens/s", mode=mode)
        what = f"step of {rows} rows"
        yield Finding(what=what, value=1000 * found[is_on][1], unit="ms", mode=mode)
    (off_rate, off_s), (on_rate, on_s) = found[False], found[True]
    for name, times in (("one request", off_rate / on_rate), ("a step", on_s / off_s)):
        yield Finding(what=f"cost of batch_invariant, {name}", value=times, unit="times")


def step_requests(bench: Bench, rows: int) -> list[Request]:
    """Canvases of equal length that fill so many rows, half of each masked."""
    length = bench.size.step_length if rows % bench.size.step_length == 0 else rows
    half = length // 2
    return requests(bench.size, rows // length, prompt=length - half, holes=half)


def _of_engine(bench: Bench, engine: Engine, rates: Rates, budget: Budget) -> Iterator[Finding]:
    size = bench.size
    shape = {"prompt": size.prompt, "canvas": size.canvas, "itemsize": size.itemsize}
    tokens_per_s = alone_tokens_per_s(bench, engine, budget.left_s / 3)
    yield Finding(what=ALONE, value=tokens_per_s, unit="tokens/s", goal=bench.goal(100))
    share = tokens_per_s / exact_ceiling(size.shape, rates, **shape)
    yield Finding(what=f"{ALONE}, of its ceiling", value=share, unit="share")
    window = {"window": "dual", "block_length": size.block}
    tokens_per_s = alone_tokens_per_s(bench, engine, budget.left_s / 3, **window)
    yield Finding(what="windows, one request", value=tokens_per_s, unit="tokens/s")
    share = tokens_per_s / block_ceiling(size.shape, rates, block=size.block, **shape)
    what = "windows, one request, of their ceiling"
    yield Finding(what=what, value=share, unit="share", goal=bench.goal(0.6))
    for rows in size.step_rows:
        if budget.left_s:
            yield from _step(bench, engine, rates, rows, budget)
        else:
            yield skipped(f"step of {rows} rows", NO_TIME)


def _step(
    bench: Bench, engine: Engine, rates: Rates, rows: int, budget: Budget
) -> Iterator[Finding]:
    """Time of a step, its share of the product's rate, what is neither body nor head, memory."""
    if is_cuda(bench.device):
        torch.cuda.reset_peak_memory_stats(bench.device)
    sums, head_rows, count = _stages(bench, engine, rows, budget)
    each_s, what = sums.step / count, f"step of {rows} rows"
    detail = {name: 1000 * total / count for name, total in asdict(sums).items()}
    yield Finding(what=what, value=1000 * each_s, unit="ms", table="stages", detail=detail)
    length = step_requests(bench, rows)[0].template.num_tokens
    share = step_flop(bench.size.shape, rows, length, head_rows) / each_s / rates.flop_per_s
    goal = bench.goal(0.7 if rows >= 2048 else 0.6)
    yield Finding(what=f"{what}, of the product", value=share, unit="share", goal=goal)
    yield Finding(
        what=f"{what}, sampler and scheduling",
        value=sums.overhead,
        unit="share",
        goal=bench.goal(0.08),
        is_cost=True,
    )
    if is_cuda(bench.device):
        yield _peak(bench, engine, what)


def _stages(bench: Bench, engine: Engine, rows: int, budget: Budget) -> tuple[Stages, float, int]:
    """Sums over some steps, rows of logits in one, and how many steps; at least one is taken."""
    wanted = step_requests(bench, rows)
    for request in wanted:
        engine.add(request)
    for _ in range(3):
        engine.step()
    logit_rows, count, sums = engine.stats.logit_rows, 0, Stages()
    clock = StageClock(engine)
    most = min(REPEATS, wanted[0].template.num_masked - 4)
    while count < most and (budget.left_s or not count):
        sums, count = sums + clock.step(), count + 1
    for request in wanted:
        engine.abort(request.id)
    engine.trace(lambda stage: None)
    return sums, (engine.stats.logit_rows - logit_rows) / count, count


def _peak(bench: Bench, engine: Engine, what: str) -> Finding:
    """Most bytes in tensors, against the plan of the engine, which has room for the most rows."""
    peak = torch.cuda.max_memory_allocated(bench.device)
    expected = plan(bench.size.shape.sizes, engine.config)
    planned = expected.total - expected.reserve
    reserved = torch.cuda.max_memory_reserved(bench.device)
    return Finding(
        what=f"{what}, memory of the plan",
        value=peak / planned,
        unit="share",
        goal=1.0,
        is_cost=True,
        detail={"peak": peak, "planned": planned, "reserved": reserved},
    )
