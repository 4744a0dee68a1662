"""Whether this processor keeps the promise: the same bits alone and in any batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dream.engine.config import EngineConfig
from dream.errors import NotBitExact
from dream.model.attention import PackedLayout
from dream.model.bits import promises_bits
from dream.model.modeling import DreamModel, Rotary
from dream.sampling import certainty

__all__ = ["is_bit_exact"]

LENGTHS = [1, 3, 65]
"""Sequences of the check: shorter than any kernel's tile, and just longer than attention's."""

LOGIT_ROWS = [1, 2, 3, sum(LENGTHS) - 6]

_found: dict[tuple[object, ...], bool] = {}
"""What was found in this process, by the shapes of the model and the number of threads."""


def is_bit_exact(model: DreamModel, config: EngineConfig) -> bool:
    """Whether every result of an engine has the same bits alone and in any batch.

    False on GPUs, in 16 bits, with torch.compile and with tensor parallelism, where nothing is
    promised. Float32 on a CPU is checked once a process, in less time than one forward takes. It
    warns with NotBitExact where this processor does not keep the promise.
    """
    if not promises_bits(model.lm_head.weight) or config.is_compiled or config.tensor_parallel > 1:
        return False
    block = model.model.layers[0]
    shapes = [tuple(weight.shape) for weight in (*block.parameters(), model.lm_head.weight)]
    key = (*shapes, model.config.num_attention_heads, torch.get_num_threads())
    if key not in _found:
        # A thread of its own: see `made_apart`.
        with ThreadPoolExecutor(1) as pool:
            _found[key] = pool.submit(_agrees, model).result()
        if not _found[key]:
            warnings.warn(_WARNING, NotBitExact, stacklevel=3)
    return _found[key]


_WARNING = (
    "float32 results on this processor depend on the number of rows in a batch: confidences, and"
    " tokens at near-ties, may differ between batches (Engine.is_bit_exact is False)"
)


@torch.inference_mode()
def _agrees(model: DreamModel) -> bool:
    """Whether a block, the head and the sampler give a row the same bits alone and in a batch."""
    random = torch.Generator().manual_seed(0)
    x_TE = torch.randn(sum(LENGTHS), model.config.hidden_size, generator=random)
    hidden_TE = _block(model, x_TE, LENGTHS)
    last = torch.tensor(LENGTHS).cumsum(0) - 1
    alone = [_block(model, x, [len(x)], is_last_wanted=True) for x in torch.split(x_TE, LENGTHS)]
    logits_NV = model.logits(hidden_TE)
    logits = [model.logits(rows) for rows in torch.split(hidden_TE, LOGIT_ROWS)]
    return (
        _is_same(hidden_TE[last], alone)
        and _is_same(logits_NV, logits)
        and _is_same(certainty(logits_NV).entropies_N, [certainty(x).entropies_N for x in logits])
    )


def _block(
    model: DreamModel, x_TE: Tensor, lengths: Sequence[int], *, is_last_wanted: bool = False
) -> Tensor:
    """The first block over these sequences: every row, or the last one alone."""
    layout = PackedLayout.of(lengths, x_TE.device)
    if is_last_wanted:
        layout = layout.wanting(torch.tensor([len(x_TE) - 1]), [1])
    rotary = Rotary.of(model.config, layout.positions_T, x_TE.dtype)
    out_NE: Tensor = model.model.layers[0](x_TE, rotary, layout, model.backend, layout.wanted)
    return out_NE


def _is_same(together: Tensor, alone: Sequence[Tensor]) -> bool:
    """Whether the bits are equal: those of NaN, too."""
    return torch.equal(together.view(torch.int32), torch.cat(list(alone)).view(torch.int32))
