"""Rows with the same bits alone and in any batch: float32 on a CPU (docs/decisions/001).

MKL's strict mode keeps the bits of a product's rows for four rows and more; an AMD processor takes
other kernels for one to three. Attention multiplies a block of queries by a block of keys, and
where a block has one to three of either, the other has to be a multiple of four. Rows of zeros
make up the number, and their results are dropped.
Letters: N rows, U keys, E input width, B sequences, H heads, D width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LEAST_ROWS", "Linear", "Product", "attend", "promises_bits", "silu"]

LEAST_ROWS = 4

QUERY_BLOCK, KEY_BLOCK = 32, 512
"""Blocks of torch's attention on a CPU: more than 191 queries go in multiples of such blocks."""


class Linear(nn.Linear):
    """A linear layer that multiplies at least four rows."""

    def forward(self, x_NE: Tensor) -> Tensor:
        """The products of the rows of [..., N, E]."""
        return _product(x_NE, self.weight, self.bias)


class Product(NamedTuple):
    """The same for weights that belong to other layers."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x_NE: Tensor) -> Tensor:
        """The products of the rows of [..., N, E]."""
        return _product(x_NE, self.weight, self.bias)


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


def _product(x_NE: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    num_rows = x_NE.shape[-2]
    if num_rows >= LEAST_ROWS or not promises_bits(x_NE):
        return F.linear(x_NE, weight, bias)
    return F.linear(_padded(x_NE, LEAST_ROWS), weight, bias)[..., :num_rows, :]


def _padded(x_NE: Tensor, num_rows: int) -> Tensor:
    return F.pad(x_NE, (0, 0, 0, num_rows - x_NE.shape[-2]))
