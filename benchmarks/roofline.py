"""What a step costs at the least: FLOP, bytes of weights, and the ceilings that follow.

A row multiplies with every weight of the body, and attends to the L rows of its canvas:
2 * body + 4 * layers * heads * head_dim * L FLOP. A row of logits costs 2 * vocabulary * hidden.
For Dream 7B: 13.05e9 + 0.401e6 * L, and 1.09e9.
"""

from __future__ import annotations

from dataclasses import dataclass

from dream.model.config import DreamConfig

__all__ = ["Rates", "block_ceiling", "body_weights", "exact_ceiling", "floor_s", "step_flop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device does at most, as measured: FLOP/s of a large square product, bytes/s copied."""

    flop_per_s: float
    bytes_per_s: float


def body_weights(shape: DreamConfig) -> int:
    """Weights of all layers' products, without the head and the embedding."""
    width, inner = shape.hidden_size, shape.intermediate_size
    kv_width = shape.num_key_value_heads * shape.head_dim
    return int(shape.num_hidden_layers * (2 * width * (width + kv_width) + 3 * width * inner))


def step_flop(shape: DreamConfig, rows: float, length: float, head_rows: float) -> float:
    """FLOP of a step of so many rows in canvases of one length, with so many rows of logits."""
    attention = 4 * shape.num_hidden_layers * shape.hidden_size * length
    head = 2 * shape.vocab_size * shape.hidden_size
    return rows * (2 * body_weights(shape) + attention) + head_rows * head


def floor_s(shape: DreamConfig, rates: Rates, itemsize: int) -> float:
    """Seconds to read every weight of the body and the head once."""
    weights = body_weights(shape) + shape.vocab_size * shape.hidden_size
    return weights * itemsize / rates.bytes_per_s


def exact_ceiling(
    shape: DreamConfig, rates: Rates, *, prompt: int, canvas: int, itemsize: int
) -> float:
    """Tokens/s of one request, all rows at every step, one token a step."""
    return 1 / _full_s(shape, rates, prompt=prompt, canvas=canvas, itemsize=itemsize)


def block_ceiling(
    shape: DreamConfig, rates: Rates, *, prompt: int, canvas: int, block: int, itemsize: int
) -> float:
    """Tokens/s of one request in blocks, all rows once a block, one token a step."""
    full_s = _full_s(shape, rates, prompt=prompt, canvas=canvas, itemsize=itemsize)
    return block / (full_s + (block - 1) * floor_s(shape, rates, itemsize))


def _full_s(shape: DreamConfig, rates: Rates, *, prompt: int, canvas: int, itemsize: int) -> float:
    """Seconds of a step over prompt and canvas, with logits of the whole canvas."""
    rows = prompt + canvas
    flop = step_flop(shape, rows, rows, canvas)
    return max(flop / rates.flop_per_s, floor_s(shape, rates, itemsize))
