"""What the network does to each row by itself between its products, and the same compiled.

Letters: T rows, E hidden width, I inner width, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from dream.kernels.fallback import FirstTry
from dream.model.bits import in_tiles, silu

__all__ = ["PLAIN", "TILED", "Leaves", "compiled_leaves"]


def norm(x_TE: Tensor, weight_E: Tensor, eps: float) -> Tensor:
    """x * rsqrt(mean(x^2) + eps) in float32, cast back, then times weight (modeling_dream:74)."""
    x = x_TE.float()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return weight_E * x.to(x_TE.dtype)


def add_norm(x_TE: Tensor, more_TE: Tensor, weight_E: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + more, and the norm of it."""
    x_TE = x_TE + more_TE
    return x_TE, norm(x_TE, weight_E, eps)


def rotate(x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """Each head rotated by the angles of its row (half-split)."""
    first, second = x_THD.chunk(2, -1)
    return x_THD * cos_T1D + torch.cat((-second, first), -1) * sin_T1D


def gate(gate_TI: Tensor, up_TI: Tensor) -> Tensor:
    """SwiGLU between its products: silu(gate) * up."""
    return silu(gate_TI) * up_TI


def tiled_norm(x_TE: Tensor, weight_E: Tensor, eps: float) -> Tensor:
    """`norm` for always equally many rows, so that its sums have one order."""
    return in_tiles(lambda tile: norm(tile, weight_E, eps), x_TE)


def add_tiled_norm(
    x_TE: Tensor, more_TE: Tensor, weight_E: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """x + more, and the tiled norm of it."""
    x_TE = x_TE + more_TE
    return x_TE, tiled_norm(x_TE, weight_E, eps)


def even_gate(gate_TI: Tensor, up_TI: Tensor) -> Tensor:
    """`gate` with one formula for every element, whatever its place in the tensor."""
    wide = gate_TI.float()
    return (wide / (1 + (-wide).exp())).to(gate_TI.dtype) * up_TI


class Leaves(NamedTuple):
    """Functions of tensors alone."""

    norm: Callable[[Tensor, Tensor, float], Tensor]
    add_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor]
    gate: Callable[[Tensor, Tensor], Tensor]


PLAIN = Leaves(norm, add_norm, rotate, gate)

TILED = Leaves(tiled_norm, add_tiled_norm, rotate, even_gate)
"""What a row gets does not depend on other rows (`EngineConfig.batch_invariant`)."""


@cache
def compiled_leaves() -> Leaves:
    """The same, each compiled at its first call, for any number of rows; they may round otherwise.

    One that does not compile on this machine stays plain, with a warning.
    """
    return Leaves(
        FirstTry("compiled norm", torch.compile(norm, dynamic=True), norm),
        FirstTry("compiled residual and norm", torch.compile(add_norm, dynamic=True), add_norm),
        FirstTry("compiled rotation", torch.compile(rotate, dynamic=True), rotate),
        FirstTry("compiled gate", torch.compile(gate, dynamic=True), gate),
    )
