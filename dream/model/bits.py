"""Rows with the same bits alone and in any batch (docs/decisions/001).

Elsewhere than in float32 on a CPU a kernel is chosen by the number of rows. Tiles of always equally
many rows take that choice away (`EngineConfig.batch_invariant`). Float32 on a CPU needs less:

MKL's strict mode keeps the bits of a product's rows for four rows and more; an AMD processor takes
other kernels for one to three. Attention multiplies a block of queries by a block of keys, and
where a block has one to three of either, the other has to be a multiple of four. Rows of zeros
make up the number, and their results are dropped. oneDNN needs two rows, and it multiplies on AMD
processors with AVX-512: there it takes half the time of MKL.
Letters: N rows, U keys, E input width, B sequences, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LEAST_ROWS", "TILE", "Linear", "Product", "attend", "by_onednn", "in_tiles"]
__all__ += ["promises_bits", "silu"]

LEAST_ROWS = 4

LEAST_WEIGHTS = 2**19
"""Of a product by oneDNN, which takes .5 ms to prepare one for a new number of rows."""

TILE = 256
"""Rows of a tile: about as many as a GPU multiplies while it reads the weights once. Fewer would
read them more often in large steps, more would compute more padding in small ones."""

QUERY_BLOCK, KEY_BLOCK = 32, 512
"""Blocks of torch's attention on a CPU: more than 191 queries go in multiples of such blocks."""


PLAIN = (Tensor, nn.Parameter)
"""Kinds of weights that are no more than numbers; quantised ones multiply in their own way."""


class Linear(nn.Linear):
    """A linear layer that multiplies at least four rows, or if `is_tiled` tiles of them."""

    is_tiled: bool = False

    def forward(self, x_NE: Tensor) -> Tensor:
        """The products of the rows of [..., N, E]; [N, E] if `is_tiled`."""
        return Product(self.weight, self.bias, self.is_tiled)(x_NE)


class Product(NamedTuple):
    """What a linear layer does, for weights that belong to other layers."""

    weight: Tensor
    bias: Tensor | None = None
    is_tiled: bool = False

    def __call__(self, x_NE: Tensor) -> Tensor:
        """As `Linear.forward`."""
        if self.is_tiled:
            return in_tiles(lambda tile: F.linear(tile, self.weight, self.bias), x_NE)
        num_rows = x_NE.shape[-2]
        if num_rows >= LEAST_ROWS or not promises_bits(x_NE):
            return _multiply(x_NE, self.weight, self.bias)
        return _multiply(_padded(x_NE, LEAST_ROWS), self.weight, self.bias)[..., :num_rows, :]


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these: in float32, on AMD with AVX-512, and not in training.

    It depends on the weights and never on the number of rows, whose bits it would change.
    """
    is_trained = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    is_large = type(weight) in PLAIN and weight.numel() >= LEAST_WEIGHTS
    return is_large and promises_bits(x) and not is_trained and _has_fast_onednn()


@cache
def _has_fast_onednn() -> bool:
    """MKL leaves AVX-512 unused on AMD's processors; oneDNN asks for the instructions alone."""
    try:
        is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return is_amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _multiply(x_NE: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not by_onednn(x_NE, weight):
        return F.linear(x_NE, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x_NE, weight, bias, "none", [], "")
    return product


def in_tiles(function: Callable[[Tensor], Tensor], x_NE: Tensor) -> Tensor:
    """A function of rows for `TILE` rows at a time; rows of zeros make up the last tile."""
    num_rows = len(x_NE)
    padded = x_NE.new_zeros(num_rows + -num_rows % TILE, x_NE.shape[1])
    padded[:num_rows] = x_NE
    first, *others = torch.split(padded, TILE)
    result = function(first)
    if not others:
        return result[:num_rows]
    joined = result.new_empty(len(padded), result.shape[1])
    joined[:TILE] = result
    for n, tile in enumerate(others, start=1):
        joined[n * TILE : (n + 1) * TILE] = function(tile)
    return joined[:num_rows]


def attend(q_BHND: Tensor, k_BHUD: Tensor, v_BHUD: Tensor) -> Tensor:
    """Scaled dot-product attention [B, H, N, D]: what a query gets does not depend on N."""
    num_rows, num_keys = q_BHND.shape[-2], k_BHUD.shape[-2]
    is_uneven = num_rows % QUERY_BLOCK < LEAST_ROWS or num_keys > KEY_BLOCK
    if num_rows % LEAST_ROWS == 0 or not is_uneven or not promises_bits(q_BHND):
        return F.scaled_dot_product_attention(q_BHND, k_BHUD, v_BHUD)
    q_BHND = _padded(q_BHND, num_rows + -num_rows % LEAST_ROWS)
    return F.scaled_dot_product_attention(q_BHND, k_BHUD, v_BHUD)[..., :num_rows, :]


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x); the CPU's fused kernel rounds an element by its place in the tensor."""
    return x / (1 + (-x).exp()) if promises_bits(x) else F.silu(x)


def promises_bits(x: Tensor) -> bool:
    """Whether results of x have to be the same to the bit in every batch."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def _padded(x_NE: Tensor, num_rows: int) -> Tensor:
    return F.pad(x_NE, (0, 0, 0, num_rows - x_NE.shape[-2]))
