"""What all phases of one process share: the weights, the record so far, engines over both."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.model import Size, random_model
from benchmarks.gpu.record import Record, read
from benchmarks.gpu.timing import each_s, is_cuda
from benchmarks.roofline import Rates
from dream import Engine, EngineConfig
from dream.engine.memory import free_memory
from dream.memory import check
from dream.model.loader import DTYPES
from dream.model.modeling import DreamModel

__all__ = ["ALONE", "COPY", "MODES", "NEEDS_CUDA", "NO_TIME", "PEAK", "PRODUCT", "Bench"]
__all__ += ["Budget", "Mode", "measured_rates"]

NEEDS_CUDA, NO_TIME = "needs CUDA", "no time left"
COPY, PRODUCT, ALONE = "copy", "square product", "exact, one request"
"""Names of findings that later phases look up."""

PEAK = 8.0
"""Times which logits of random weights are about as peaked as a trained model's: exact in bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How an engine runs; both are always set, whatever the engine's defaults are."""

    compile: bool
    cuda_graphs: bool


MODES = {
    "eager": Mode(compile=False, cuda_graphs=False),
    "graphs": Mode(compile=False, cuda_graphs=True),
    "compiled": Mode(compile=True, cuda_graphs=False),
    "compiled, graphs": Mode(compile=True, cuda_graphs=True),
}


class Budget:
    """Time that a phase may take; it looks between two measurements."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, or 0."""
        return max(0.0, self._end - time.perf_counter())


@dataclass(slots=True, kw_only=True)
class Bench:
    """Sizes, device, and the file of what earlier phases found; the weights come at first use."""

    size: Size
    device: str
    log: Path
    degree: int = 1
    _network: DreamModel | None = field(default=None, init=False)

    @property
    def network(self) -> DreamModel:
        """The whole model, made on the device."""
        if self._network is None:
            rows = max(self.size.step_rows)
            wanted = self.config(rows=rows, cache_tokens=self.cache_tokens)
            check(self.size.shape.sizes, wanted, free_memory(self.device))
            self._network = random_model(self.size.shape, self.size.dtype, self.device)
        return self._network

    @property
    def cache_tokens(self) -> int:
        """What the keys and values of one request take."""
        return self.size.prompt + self.size.canvas

    @property
    def record(self) -> Record:
        """What is known so far."""
        return read(self.log)

    @property
    def rates(self) -> Rates:
        """What the phase of rates found; measured in short where it found nothing."""
        product, copied = (self.record.value(what) for what in (PRODUCT, COPY))
        if product is None or copied is None:
            return measured_rates(self)
        return Rates(flop_per_s=product * 1e12, bytes_per_s=copied * 1e12)

    @property
    def best_mode(self) -> str:
        """The mode in which one exact request was fastest; eager where none was measured."""
        record = self.record
        return max(MODES, key=lambda mode: record.value(ALONE, mode) or 0.0)

    def give_up(self) -> None:
        """Let go of the weights."""
        self._network = None
        if is_cuda(self.device):
            torch.cuda.empty_cache()

    def lacks(self, mode: str) -> bool:
        """Whether a mode cannot run on this device."""
        return mode != "eager" and not is_cuda(self.device)

    def goal(self, value: float) -> float | None:
        """The goal, where goals are for this size."""
        return value if self.size.has_goals else None

    def config(
        self, mode: str = "eager", *, rows: int, parity: bool = False, cache_tokens: int = 0
    ) -> EngineConfig:
        """How an engine runs that has room for so many rows and keeps so many tokens."""
        return EngineConfig(
            device=self.device,
            dtype=self.size.dtype,
            parity=parity,
            max_num_batched_tokens=rows,
            max_logit_rows=self.size.max_logit_rows,
            max_cache_tokens=cache_tokens,
            compile=MODES[mode].compile,
            cuda_graphs=MODES[mode].cuda_graphs,
        )

    def engine(
        self, mode: str = "eager", *, rows: int, parity: bool = False, cache_tokens: int = 0
    ) -> Engine:
        """An engine over the model."""
        config = self.config(mode, rows=rows, parity=parity, cache_tokens=cache_tokens)
        return Engine(self.network, None, config)


@torch.inference_mode()
def measured_rates(bench: Bench, repeats: int = 10) -> Rates:
    """Rates of a large square product and of a copy, both in a few milliseconds."""
    size, device = bench.size, bench.device
    square = torch.randn(size.square, size.square, device=device, dtype=DTYPES[size.dtype])
    source = torch.empty(size.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = each_s(device, partial(torch.mm, square, square), repeats)
    copy_s = each_s(device, partial(target.copy_, source), repeats)
    return Rates(flop_per_s=2 * size.square**3 / product_s, bytes_per_s=2 * size.copied / copy_s)
