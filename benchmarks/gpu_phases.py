"""The phases of `benchmarks.gpu`: each measures one thing within its budget of time."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_model import Bench, Budget, Finding, requests
from benchmarks.official_loop import Options, diffusion_generate
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling, step_flop
from benchmarks.stage_clock import StageClock, Stages, reached
from dream import Engine, Request
from dream.memory import plan
from dream.model.config import DreamConfig
from dream.model.loader import DTYPES
from dream.model.modeling import compile_rows

__all__ = ["PHASES", "Phase", "one_request"]

Phase = Callable[[Bench, Budget], list[Finding]]
PRODUCTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
REPEATS = 20


@torch.inference_mode()
def rates(bench: Bench, budget: Budget) -> list[Finding]:
    """The device's own rates: a large square product, the model's products, a copy."""
    size, dtype = bench.size, DTYPES[bench.size.dtype]
    square = torch.randn(size.square, size.square, device=bench.device, dtype=dtype)
    flop_per_s = 2 * size.square**3 / _each_s(bench.device, partial(torch.mm, square, square))
    source = torch.empty(size.copied, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    bytes_per_s = 2 * size.copied / _each_s(bench.device, partial(target.copy_, source))
    bench.measured = Rates(flop_per_s=flop_per_s, bytes_per_s=bytes_per_s)
    tera = flop_per_s / 1e12
    found = [Finding(what=f"square product of {size.square}", value=tera, unit="TFLOP/s")]
    found.append(Finding(what="copy", value=bytes_per_s / 1e12, unit="TB/s"))
    for rows in size.step_rows:
        if budget.left_s:
            found.append(_products(bench, rows))
    return found


def steps(bench: Bench, budget: Budget) -> list[Finding]:
    """Whole steps of the engine by their rows: time, share of the product's rate, overhead."""
    found: list[Finding] = []
    for rows in bench.size.step_rows:
        if budget.left_s:
            found += _step(bench, rows, budget)
    return found


def exact(bench: Bench, budget: Budget) -> list[Finding]:
    """One request at a time, all rows at every step, one token a step."""
    tokens_per_s = one_request(bench, budget)
    bench.found["exact"] = tokens_per_s
    size = bench.size
    shape = {"prompt": size.prompt, "canvas": size.canvas, "itemsize": size.itemsize}
    ceiling = exact_ceiling(size.shape, bench.rates, **shape)
    return [
        Finding(what="exact, batch 1", value=tokens_per_s, unit="tokens/s", goal=bench.goal(100)),
        Finding(what="exact, of its ceiling", value=tokens_per_s / ceiling, unit="share"),
    ]


def windows(bench: Bench, budget: Budget) -> list[Finding]:
    """One request at a time in blocks with kept keys and values, one token a step."""
    size = bench.size
    tokens_per_s = one_request(bench, budget, window="dual", block_length=size.block)
    shape = {"prompt": size.prompt, "canvas": size.canvas, "itemsize": size.itemsize}
    share = tokens_per_s / block_ceiling(size.shape, bench.rates, block=size.block, **shape)
    return [
        Finding(what="windows, batch 1", value=tokens_per_s, unit="tokens/s"),
        Finding(what="windows, of their ceiling", value=share, unit="share", goal=bench.goal(0.6)),
    ]


def loop(bench: Bench, budget: Budget) -> list[Finding]:
    """The plain official loop and the engine in turn on the same prompts and steps."""
    found: list[Finding] = []
    for batch in (1, 8):
        if budget.left_s:
            found += _beside_loop(bench, batch, budget)
    return found


def compiled(bench: Bench, budget: Budget) -> list[Finding]:
    """The largest step and one exact request again, with norms and MLPs compiled; CUDA alone."""
    if torch.device(bench.device).type != "cuda":
        return []
    compile_rows(bench.network)
    found = _step(bench, bench.size.step_rows[-1], budget)
    tokens_per_s = one_request(bench, budget)
    found.append(Finding(what="exact, batch 1", value=tokens_per_s, unit="tokens/s"))
    return [replace(finding, what=f"compiled: {finding.what}") for finding in found]


def parallel(bench: Bench, budget: Budget) -> list[Finding]:
    """One exact request over several devices; nothing where there is one. The model is given up."""
    if bench.degree == 1:
        return []
    bench.model = None
    torch.cuda.empty_cache()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    name = "7b" if bench.size.has_goals else "tiny"
    words = [sys.executable, "-m", "benchmarks.gpu_parallel", bench.device, name]
    words += [str(bench.degree), str(port), f"{budget.left_s / 2:.0f}"]
    processes = [
        subprocess.Popen([*words, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(bench.degree)
    ]
    try:
        told = [process.communicate(timeout=budget.left_s + 1)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    tokens_per_s = float(json.loads(told[0].splitlines()[-1]))
    what = f"exact, batch 1, {bench.degree} processes"
    found = [Finding(what=what, value=tokens_per_s, unit="tokens/s")]
    if alone := bench.found.get("exact"):
        found.append(Finding(what=f"{what}, against one", value=tokens_per_s / alone, unit="times"))
    return found


PHASES: dict[str, tuple[Phase, float]] = {
    "rates": (rates, 60),
    "steps": (steps, 140),
    "exact": (exact, 50),
    "windows": (windows, 50),
    "loop": (loop, 80),
    "compiled": (compiled, 60),
    "parallel": (parallel, 120),
}
"""Each phase and its seconds: with the making of the weights less than ten minutes in all."""


def one_request(bench: Bench, budget: Budget, **params: object) -> float:
    """Tokens/s of the second of two requests, after whose first nothing is new to the device."""
    size = bench.size
    window = params.get("window")
    engine = bench.engine(rows=size.prompt + size.canvas, cache_rows=2048 if window else 0)
    for request in requests(size, 2, prompt=size.prompt, holes=size.canvas, **params):
        tokens_per_s = _tokens_per_s(engine, request, budget)
    return tokens_per_s


def _tokens_per_s(engine: Engine, request: Request, budget: Budget) -> float:
    """Of one request alone, to its end or as far as half of the time that is left goes."""
    engine.add(request)
    before, most = engine.stats.committed_tokens, budget.left_s / 2
    start = time.perf_counter()
    while engine.has_work and time.perf_counter() - start < most:
        engine.step()
    seconds = time.perf_counter() - start
    engine.abort(request.id)
    return (engine.stats.committed_tokens - before) / seconds


def _each_s(device: str, call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds of a call among many in a row."""
    call()
    start = reached(device)
    for _ in range(repeats):
        call()
    return start.until(reached(device)) / repeats


def _products(bench: Bench, rows: int) -> Finding:
    """The products of all layers at so many rows, each layer's own weights in turn."""
    shape, detail = bench.size.shape, {}
    total_s = total_flop = 0.0
    for name in PRODUCTS:
        layers = [block.get_submodule(name) for block in bench.network.model.layers]
        weights = [layer.weight for layer in layers if isinstance(layer, nn.Linear)]
        wide, narrow = weights[0].shape
        x = torch.randn(rows, narrow, device=bench.device, dtype=weights[0].dtype)
        seconds = _each_s(bench.device, partial(_all, x, weights), 3)
        flop = 2.0 * rows * wide * narrow * len(weights)
        detail[name] = flop / seconds / 1e12
        is_twice = name == "mlp.gate_proj"  # and up_proj, which has the same shape
        total_s, total_flop = total_s + seconds * (1 + is_twice), total_flop + flop * (1 + is_twice)
    detail["share"] = total_flop / total_s / bench.rates.flop_per_s
    what = f"products of {shape.num_hidden_layers} layers, {rows} rows"
    return Finding(what=what, value=total_flop / total_s / 1e12, unit="TFLOP/s", detail=detail)


def _all(x: Tensor, weights: list[Tensor]) -> None:
    for weight in weights:
        F.linear(x, weight)


def _step(bench: Bench, rows: int, budget: Budget) -> list[Finding]:
    size = bench.size
    engine = bench.engine(rows=rows)
    half = size.step_length // 2
    for request in requests(size, rows // size.step_length, prompt=half, holes=half):
        engine.add(request)
    if is_cuda := torch.device(bench.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    for _ in range(3):
        engine.step()
    logit_rows, count, sums = engine.stats.logit_rows, 0, Stages()
    clock = StageClock(engine)
    while count < REPEATS and count < half - 4 and (budget.left_s or not count):
        sums, count = sums + clock.step(), count + 1
    head_rows = (engine.stats.logit_rows - logit_rows) / count
    found = _of_step(bench, rows, head_rows, sums, count)
    if is_cuda:
        found.append(_peak(bench, engine, rows))
    return found


def _of_step(bench: Bench, rows: int, head_rows: float, sums: Stages, count: int) -> list[Finding]:
    """Time of a step, its share of the product's rate, and what is neither body nor head."""
    flop = step_flop(bench.size.shape, rows, bench.size.step_length, head_rows)
    each_s = sums.step / count
    share = flop / each_s / bench.rates.flop_per_s
    detail = {name: 1000 * total / count for name, total in asdict(sums).items()}
    detail |= {"steps": count, "head_rows": head_rows}
    goal = bench.goal(0.7 if rows >= 2048 else 0.6)
    return [
        Finding(what=f"step of {rows} rows", value=1000 * each_s, unit="ms", detail=detail),
        Finding(what=f"step of {rows} rows, of the product", value=share, unit="share", goal=goal),
        Finding(
            what=f"step of {rows} rows, sampler and scheduling",
            value=sums.overhead,
            unit="share",
            goal=bench.goal(0.08),
            is_cost=True,
        ),
    ]


def _peak(bench: Bench, engine: Engine, rows: int) -> Finding:
    """Most bytes in tensors, against the plan."""
    shape: DreamConfig = bench.size.shape
    peak = torch.cuda.max_memory_allocated(bench.device)
    expected = plan(shape.sizes, engine.config)
    planned = expected.total - expected.reserve
    reserved = torch.cuda.max_memory_reserved(bench.device)
    return Finding(
        what=f"step of {rows} rows, memory of the plan",
        value=peak / planned,
        unit="share",
        goal=1.0,
        is_cost=True,
        detail={"peak": peak, "planned": planned, "reserved": reserved},
    )


def _beside_loop(bench: Bench, batch: int, budget: Budget) -> list[Finding]:
    size = bench.size
    engine = bench.engine(rows=batch * (size.prompt + size.canvas), parity=True)
    shape = {"prompt": size.prompt, "holes": size.canvas}
    wanted = requests(size, batch, **shape, steps=size.loop_steps)
    prompts_BP = torch.tensor([r.template.segments[0].token_ids for r in wanted])  # type: ignore[union-attr]
    options = Options(steps=size.loop_steps)
    calls: tuple[Callable[[], object], ...] = (
        partial(
            diffusion_generate,
            bench.network,
            prompts_BP,
            max_new_tokens=size.canvas,
            options=options,
        ),
        partial(engine.generate, wanted),
    )
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
    return [
        Finding(what=f"plain loop, {what}", value=tokens / loop_s, unit="tokens/s"),
        Finding(what=f"engine, {what}", value=tokens / engine_s, unit="tokens/s"),
        Finding(what=f"engine over loop, {what}", value=loop_s / engine_s, unit="times"),
    ]
