"""What the device itself does: a copy, a square product, and the model's own products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.bench import COPY, NO_TIME, PRODUCT, Bench, Budget, measured_rates
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.timing import captured, each_s, sustained_s
from dream.model.loader import DTYPES

__all__ = ["copy_and_product", "linears", "product_again"]

LINEARS = {
    "q": ("self_attn.q_proj",),
    "k": ("self_attn.k_proj",),
    "v": ("self_attn.v_proj",),
    "o": ("self_attn.o_proj",),
    "gate": ("mlp.gate_proj",),
    "up": ("mlp.up_proj",),
    "down": ("mlp.down_proj",),
    "q, k, v in one": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "gate, up in one": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Linear layers of a block by the names of their parameters; some joined in one product."""

APART = ("q", "k", "v", "o", "gate", "up", "down")
JOINED = ("q, k, v in one", "o", "gate, up in one", "down")


@torch.inference_mode()
def copy_and_product(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Bytes copied, and a square product: a short burst, and sustained for a second."""
    rates = measured_rates(bench)
    yield Finding(what=COPY, value=rates.bytes_per_s / 1e12, unit="TB/s")
    burst = rates.flop_per_s / 1e12
    yield Finding(what=f"{PRODUCT}, burst", value=burst, unit="TFLOP/s")
    yield Finding(what=PRODUCT, value=_product(bench), unit="TFLOP/s")


@torch.inference_mode()
def product_again(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """The sustained product when the device is warm from the steps."""
    yield Finding(what=f"{PRODUCT}, after the steps", value=_product(bench), unit="TFLOP/s")


@torch.inference_mode()
def linears(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Every linear layer by rows, apart and joined, each layer's own weights in turn."""
    seconds: dict[tuple[str, int], float] = {}
    for name, weights in _weights(bench):
        if not budget.left_s:
            yield skipped(f"weights {name}", NO_TIME)
            continue
        yield _linear(bench, name, weights, seconds)
    peak = bench.rates.flop_per_s
    for rows in bench.size.linear_rows:
        for title, names in (("apart", APART), ("joined", JOINED)):
            if not all((name, rows) in seconds for name in names):
                continue
            total_s = sum(seconds[name, rows] for name in names)
            what = f"products of all layers {title}, {rows} rows"
            yield Finding(what=what, value=1000 * total_s, unit="ms")
            share = rows * _flop_of_row(bench) / total_s / peak
            yield Finding(what=f"{what}, of the product", value=share, unit="share")


def _product(bench: Bench) -> float:
    """TFLOP/s of the square product, sustained."""
    size = bench.size
    square = torch.randn(size.square, size.square, device=bench.device, dtype=DTYPES[size.dtype])
    each = sustained_s(bench.device, partial(torch.mm, square, square), size.sustained_s)
    return 2 * size.square**3 / each / 1e12


def _weights(bench: Bench) -> Iterator[tuple[str, list[Tensor]]]:
    """Each name of LINEARS with its weights in every layer, then the head."""
    named = dict(bench.network.named_parameters())
    for name, parts in LINEARS.items():
        layers = range(bench.size.shape.num_hidden_layers)
        keys = [[f"model.layers.{layer}.{part}.weight" for part in parts] for layer in layers]
        yield name, [_joined([named[key] for key in group]) for group in keys]
    yield "head", [named["lm_head.weight"]]


def _joined(weights: list[Tensor]) -> Tensor:
    return torch.cat(weights) if len(weights) > 1 else weights[0]


def _linear(
    bench: Bench, name: str, weights: list[Tensor], seconds: dict[tuple[str, int], float]
) -> Finding:
    """TFLOP/s by rows; the seconds of all layers are added to `seconds`."""
    wide, narrow = weights[0].shape
    detail: dict[str, float] = {}
    for rows in bench.size.linear_rows:
        x = torch.randn(rows, narrow, device=bench.device, dtype=weights[0].dtype)
        call = captured(bench.device, partial(_all, x, weights))
        seconds[name, rows] = each_s(bench.device, call, 3)
        detail[f"{rows}"] = 2e-12 * rows * wide * narrow * len(weights) / seconds[name, rows]
    value = max(detail.values())
    what = f"weights {name}, at best"
    return Finding(what=what, value=value, unit="TFLOP/s", table="products", detail=detail)


def _flop_of_row(bench: Bench) -> float:
    named = dict(bench.network.named_parameters())
    blocks = [p for name, p in named.items() if name.startswith("model.layers.") and p.ndim == 2]
    return 2.0 * sum(weights.numel() for weights in blocks)


def _all(x: Tensor, weights: list[Tensor]) -> None:
    for weight in weights:
        F.linear(x, weight)
