"""A loaded model made ready for its engine: what its device does faster, compiled beforehand."""

from __future__ import annotations

import torch

from dream.engine.config import EngineConfig
from dream.kernels.row_stats import row_stats
from dream.model.attention import PackedLayout
from dream.model.join import join_products
from dream.model.leaves import PLAIN, TILED, compiled_leaves
from dream.model.modeling import DreamModel, arrange_rows

__all__ = ["prepare"]

LENGTHS = ([1], [2], [5, 7])
"""Sequences of the first forwards: one row is compiled apart from any other number of rows."""


def prepare(model: DreamModel, config: EngineConfig) -> None:
    """Change a model in place as the settings and its device want it; the last call decides."""
    is_cuda = model.device.type == "cuda"
    if is_cuda:
        join_products(model)
    leaves = compiled_leaves() if config.compile else TILED if config.batch_invariant else PLAIN
    arrange_rows(model, leaves, is_tiled=config.batch_invariant)
    if is_cuda and config.compile:
        for lengths in LENGTHS:
            _first_forward(model, lengths)


@torch.inference_mode()
def _first_forward(model: DreamModel, lengths: list[int]) -> None:
    """Every kernel once, the last layer for one row, so that no request waits for a compiler."""
    layout = PackedLayout.of(lengths, model.device)
    last = layout.wanting(layout.positions_T.new_zeros(len(lengths)), [1] * len(lengths))
    token_ids_T = torch.zeros_like(layout.positions_T)
    for wanted in (layout, last):
        row_stats(model.logits(model(token_ids_T, wanted)))
