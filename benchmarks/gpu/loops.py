"""Other ways to run the same weights: the plain official loop, and as an autoregressive model."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import NO_TIME, Bench, Budget
from benchmarks.gpu.causal import CausalDecoder
from benchmarks.gpu.model import requests
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.timing import captured, each_s
from benchmarks.official_loop import Options, diffusion_generate
from benchmarks.stage_clock import reached
from dream import Request

__all__ = ["autoregressive", "loop"]

BATCHES = (1, 8)


def loop(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """The plain official loop and the engine in turn on the same prompts and steps."""
    for batch in BATCHES:
        if budget.left_s:
            yield from _beside_loop(bench, batch, budget)
        else:
            yield skipped(f"plain loop, batch {batch}", NO_TIME)


@torch.inference_mode()
def autoregressive(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Greedy decoding with a causal mask and a static cache, each forward a CUDA graph."""
    size = bench.size
    for batch in BATCHES:
        prompts_BP = _prompts(requests(size, batch, prompt=size.prompt, holes=1)).to(bench.device)
        decoder = CausalDecoder(bench.network, batch, size.prompt + size.canvas)
        decoder.start(prompts_BP)
        step = captured(bench.device, decoder.step)
        decoder.start(prompts_BP)
        step_s = each_s(bench.device, step, size.canvas - 3)
        what = f"autoregressive, batch {batch}, {size.canvas} tokens behind {size.prompt}"
        yield Finding(what=what, value=batch / step_s, unit="tokens/s")


def _prompts(wanted: list[Request]) -> Tensor:
    return torch.tensor([one.template.segments[0].token_ids for one in wanted])  # type: ignore[union-attr]


def _beside_loop(bench: Bench, batch: int, budget: Budget) -> Iterator[Finding]:
    size, mode = bench.size, bench.best_mode
    engine = bench.engine(mode, rows=batch * (size.prompt + size.canvas), parity=True)
    shape = {"prompt": size.prompt, "holes": size.canvas}
    wanted = requests(size, batch, **shape, steps=size.loop_steps)
    options = Options(steps=size.loop_steps)
    run_loop = partial(
        diffusion_generate,
        bench.network,
        _prompts(wanted),
        max_new_tokens=size.canvas,
        options=options,
    )
    calls: tuple[Callable[[], object], ...] = (run_loop, partial(engine.generate, wanted))
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(4):
        if number < 2 or budget.left_s:
            for call, times in zip(calls, seconds, strict=True):
                start = reached(bench.device)
                call()
                times.append(reached(bench.device).host_s - start.host_s)
    loop_s, engine_s = (statistics.median(times[1:]) for times in seconds)
    tokens = batch * size.canvas
    what = f"batch {batch}, {size.loop_steps} steps"
    yield Finding(what=f"plain loop, {what}", value=tokens / loop_s, unit="tokens/s")
    yield Finding(what=f"engine, {what}", value=tokens / engine_s, unit="tokens/s", mode=mode)
    ratio = loop_s / engine_s
    yield Finding(what=f"engine over loop, {what}", value=ratio, unit="times", mode=mode)
