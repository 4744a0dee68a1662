"""The phases of `benchmarks.gpu` in the order in which they run, and how long each may take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from benchmarks.gpu.batches import batches, draws, prompts
from benchmarks.gpu.bench import Bench, Budget
from benchmarks.gpu.correctness import graphs, layers, tokens, varlen_kernel
from benchmarks.gpu.loops import autoregressive, loop
from benchmarks.gpu.parallel import parallel
from benchmarks.gpu.poisson import load
from benchmarks.gpu.profiles import profile_step
from benchmarks.gpu.rates import copy_and_product, linears, product_again
from benchmarks.gpu.record import Finding
from benchmarks.gpu.steps import invariant, of_mode

__all__ = ["PHASES", "START_S", "Phase"]

START_S = 8.0
"""Seconds that a process takes before its first phase begins: torch's import, CUDA's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One thing that is measured.

    seconds: after so many its process is ended; it stops itself before. process: phases of one
    name that follow each other share a process and its weights, until one of them fails.
    """

    run: Callable[[Bench, Budget], Iterable[Finding]]
    seconds: float
    doc: str
    process: str


PHASES: dict[str, Phase] = {
    "layers": Phase(
        run=layers, seconds=15, process="checks", doc="two layers against float32 and plain SDPA"
    ),
    "varlen": Phase(
        run=varlen_kernel, seconds=8, process="checks", doc="the packed kernel against plain SDPA"
    ),
    "tokens": Phase(
        run=tokens, seconds=25, process="checks", doc="tokens of the plain loop, alone, in a batch"
    ),
    "graphs-check": Phase(
        run=graphs,
        seconds=12,
        process="checks",
        doc="tokens with CUDA graphs and without",
    ),
    "rates": Phase(
        run=copy_and_product, seconds=12, process="checks", doc="a copy and a square product"
    ),
    "linears": Phase(
        run=linears, seconds=25, process="checks", doc="the model's own products by rows"
    ),
    "profile": Phase(
        run=partial(profile_step, "eager"), seconds=25, process="profile", doc="kernels of a step"
    ),
    "eager": Phase(
        run=partial(of_mode, "eager"), seconds=60, process="steps", doc="one request, and steps"
    ),
    "rates-again": Phase(
        run=product_again, seconds=5, process="steps", doc="the square product after the steps"
    ),
    "graphs": Phase(
        run=partial(of_mode, "graphs"), seconds=35, process="steps", doc="the same with CUDA graphs"
    ),
    "compiled": Phase(
        run=partial(of_mode, "compiled"), seconds=55, process="steps", doc="the same compiled"
    ),
    "fast": Phase(
        run=partial(of_mode, "compiled, graphs"), seconds=45, process="steps", doc="both together"
    ),
    "profile-fast": Phase(
        run=partial(profile_step, "compiled, graphs"),
        seconds=25,
        process="steps",
        doc="kernels of a step, compiled and with CUDA graphs",
    ),
    "invariant": Phase(
        run=invariant, seconds=20, process="batches", doc="what batch_invariant costs"
    ),
    "batches": Phase(
        run=batches, seconds=35, process="batches", doc="8, 16 and 32 requests in windows"
    ),
    "prompts": Phase(
        run=prompts, seconds=25, process="batches", doc="longer prompts, several tokens a forward"
    ),
    "draws": Phase(
        run=draws, seconds=15, process="batches", doc="greedy and drawn tokens of peaked logits"
    ),
    "loop": Phase(run=loop, seconds=40, process="others", doc="the plain official loop"),
    "autoregressive": Phase(
        run=autoregressive, seconds=15, process="others", doc="the same weights, causal, with cache"
    ),
    "load": Phase(run=load, seconds=35, process="others", doc="requests at Poisson times"),
    "parallel": Phase(
        run=parallel, seconds=20, process="others", doc="one request over several GPUs"
    ),
}
