"""Rows with the same bits alone and in any batch: float32 on a CPU (docs/decisions/001).

MKL's strict mode keeps the bits of a product's rows for four rows and more; an AMD processor takes
other kernels for one to three. Attention multiplies blocks of queries, so that its last block has
to hold a multiple of four. Rows of zeros make up the number, and their results are dropped.
Letters: N rows, E input width, O output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LEAST_ROWS", "Linear", "attend", "promises_bits", "silu"]

LEAST_ROWS = 4


class Linear(nn.Linear):
    """A linear layer that multiplies at least four rows."""

    def forward(self, x_NE: Tensor) -> Tensor:
        """The products [..., N, O] of inputs [..., N, E]."""
        num_rows = x_NE.shape[-2]
        if num_rows >= LEAST_ROWS or not promises_bits(x_NE):
            return super().forward(x_NE)
        return super().forward(_padded(x_NE, LEAST_ROWS))[..., :num_rows, :]


def attend(q_BHND: Tensor, k_BHUD: Tensor, v_BHUD: Tensor) -> Tensor:
    """Scaled dot-product attention [B, H, N, D], computed for a multiple of four queries."""
    num_rows = q_BHND.shape[-2]
    if promises_bits(q_BHND):
        q_BHND = _padded(q_BHND, -(-num_rows // LEAST_ROWS) * LEAST_ROWS)
    return F.scaled_dot_product_attention(q_BHND, k_BHUD, v_BHUD)[..., :num_rows, :]


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x); the CPU's fused kernel rounds an element by its place in the tensor."""
    return x / (1 + (-x).exp()) if promises_bits(x) else F.silu(x)


def promises_bits(x: Tensor) -> bool:
    """Whether results of x have to be the same to the bit in every batch."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def _padded(x_NE: Tensor, num_rows: int) -> Tensor:
    missing = num_rows - x_NE.shape[-2]
    return F.pad(x_NE, (0, 0, 0, missing)) if missing else x_NE
