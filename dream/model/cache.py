"""Keys and values kept between forwards, for the approximate modes alone.

In a bidirectional model every key above the first layer depends on every token, so what is kept
grows stale: only a forward over all rows is exact.
Letters: T packed rows, U key rows, P rows of the cache, K key-value heads, D width of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dream.model.config import DreamConfig

__all__ = ["CachedRows", "KeyValueCache"]


class KeyValueCache:
    """Keys (after the rotation) and values of `num_rows` rows, for every layer.

    scratch_slot: one row more, for what nobody reads.
    """

    def __init__(
        self,
        config: DreamConfig,
        num_rows: int,
        dtype: torch.dtype,
        device: torch.device,
        degree: int,
    ) -> None:
        heads = config.num_key_value_heads // degree
        self.scratch_slot = num_rows
        shape = (2, config.num_hidden_layers, num_rows + 1, heads, config.head_dim)
        self._kept = torch.empty(shape, dtype=dtype, device=device)

    def merge(
        self, layer: int, k_TKD: Tensor, v_TKD: Tensor, rows: CachedRows
    ) -> tuple[Tensor, Tensor]:
        """Keep the new keys and values of cached sequences; all keys and values [U, K, D]."""
        keys, values = (
            self._merge_one(kept_PKD, new_TKD, rows)
            for kept_PKD, new_TKD in zip(self._kept[:, layer], (k_TKD, v_TKD), strict=True)
        )
        return keys, values

    @staticmethod
    def _merge_one(kept_PKD: Tensor, new_TKD: Tensor, rows: CachedRows) -> Tensor:
        kept_PKD.index_copy_(0, rows.written, new_TKD[rows.num_exact :])
        read_UKD = kept_PKD.index_select(0, rows.read)
        return torch.cat([new_TKD[: rows.num_exact], read_UKD]) if rows.num_exact else read_UKD


class CachedRows(NamedTuple):
    """Which rows of a cache a forward uses.

    The first `num_exact` packed rows take no part. written: the row of the cache for each packed
    row after them. read: rows of the cache that are the keys of those sequences, in order.
    """

    cache: KeyValueCache
    num_exact: int
    written: Tensor
    read: Tensor
