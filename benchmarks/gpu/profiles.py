"""Which kernels a step runs, and for how much of the step the device is busy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import NEEDS_CUDA, NO_TIME, Bench, Budget
from benchmarks.gpu.model import requests
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.steps import step_requests
from benchmarks.gpu.timing import is_cuda
from benchmarks.stage_clock import reached
from dream import Engine, Request

__all__ = ["busy_s", "profile_step"]

WARM_STEPS, TOP, NAME = 5, 30, 160
"""Steps before the one that is profiled; kernels that are told, and letters of their names."""


def profile_step(mode: str, bench: Bench, budget: Budget) -> Iterator[Finding]:
    """One step of each size and one step in a window; on a CPU operators instead of kernels."""
    if bench.lacks(mode):
        yield skipped("kernels of a step", NEEDS_CUDA, mode)
        return
    size = bench.size
    engine = bench.engine(mode, rows=max(size.profile_rows), cache_tokens=bench.cache_tokens)
    options = {"window": "dual", "block_length": size.block}
    in_window = requests(size, 1, prompt=size.prompt, holes=size.canvas, **options)
    cases = [(f"step of {rows} rows", step_requests(bench, rows)) for rows in size.profile_rows]
    cases.insert(1, ("window step", in_window))
    _profiled(engine, cases[0][1])  # the first profile also loads the profiler
    for what, wanted in cases:
        if not budget.left_s:
            yield skipped(f"kernels of a {what}", NO_TIME, mode)
            continue
        step_s, busy, detail = _profiled(engine, wanted)
        largest = sorted(detail.items(), key=lambda pair: -pair[1])[:TOP]
        yield Finding(
            what=f"kernels of a {what}",
            value=1000 * sum(detail.values()),
            unit="ms",
            mode=mode,
            table="kernels",
            detail={name: 1000 * seconds for name, seconds in largest},
        )
        if busy is not None:
            share = busy / step_s
            yield Finding(what=f"device busy in a {what}", value=share, unit="share", mode=mode)


def busy_s(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the spans (start, end) runs."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class Profile(NamedTuple):
    """Seconds of a step without the profiler; with it, how long the device was busy, and by kernel.

    On a CPU the first of these two is None.
    """

    step_s: float
    busy_s: float | None
    by_kernel: dict[str, float]


def _profiled(engine: Engine, wanted: list[Request]) -> Profile:
    on_cuda = is_cuda(engine.config.device)
    for request in wanted:
        engine.add(request)
    step_s = min([_step_s(engine) for _ in range(WARM_STEPS)])
    extra = [ProfilerActivity.CUDA] if on_cuda else []
    with profile(activities=[ProfilerActivity.CPU, *extra]) as profiler:
        _step_s(engine)
    for request in wanted:
        engine.abort(request.id)
    if not on_cuda:
        averages = profiler.key_averages()
        operators = {one.key: one.self_cpu_time_total / 1e6 for one in averages}
        return Profile(step_s, None, operators)
    kernels = [event for event in profiler.events() or [] if _is_kernel(event)]
    by_name: dict[str, float] = defaultdict(float)
    for event in kernels:
        by_name[event.name[:NAME]] += event.time_range.elapsed_us() / 1e6
    spans = [(event.time_range.start / 1e6, event.time_range.end / 1e6) for event in kernels]
    return Profile(step_s, busy_s(spans), dict(by_name))


def _step_s(engine: Engine) -> float:
    """Seconds of one step until the device has done all of it."""
    start = reached(engine.config.device)
    engine.step()
    return reached(engine.config.device).host_s - start.host_s


def _is_kernel(event: FunctionEvent) -> bool:
    """Whether it ran on the device, and is no range that somebody named."""
    is_named = getattr(event, "is_user_annotation", False)
    return event.device_type.name == "CUDA" and not is_named
