"""Whether this device keeps the promise: the same bits alone and in any batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from dream.engine.config import EngineConfig
from dream.errors import NotBitExact
from dream.kernels.row_stats import row_stats
from dream.model.attention import PackedLayout
from dream.model.bits import TILE, promises_bits
from dream.model.device import on_device
from dream.model.modeling import Attention, DreamModel, Rotary
from dream.sampling import certainty, certainty_of

__all__ = ["is_bit_exact"]

LENGTHS = [1, 3, 65]
"""Sequences of the check: shorter than any kernel's tile, and just longer than attention's."""

LOGIT_ROWS = [1, 2, 3, sum(LENGTHS) - 6]

TILED_LENGTHS = [*LENGTHS, 2 * TILE]
"""Those of `batch_invariant`: they lie in several tiles."""

_found: dict[tuple[object, ...], bool] = {}
"""What was found in this process, by device, precision and shapes, and the number of threads."""


def is_bit_exact(model: DreamModel, config: EngineConfig) -> bool:
    """Whether every result of an engine has the same bits alone and in any batch.

    Float32 on a CPU, and `batch_invariant` anywhere, are checked once a process, in about the time
    of one forward. It warns with NotBitExact where this device does not keep the promise. False
    with torch.compile, with tensor parallelism, with weights in 8 bits, and otherwise on GPUs and
    in 16 bits, where nothing is promised.
    """
    is_promised = config.batch_invariant or promises_bits(model.lm_head.weight)
    if not is_promised or config.compile or config.approximation or config.tensor_parallel > 1:
        return False
    block = model.model.layers[0]
    shapes = [tuple(weight.shape) for weight in (*block.parameters(), model.lm_head.weight)]
    kind = (str(model.device), model.dtype, model.backend, config.batch_invariant)
    key = (*kind, *shapes, model.config.num_attention_heads, torch.get_num_threads())
    if key not in _found:
        lengths = TILED_LENGTHS if config.batch_invariant else LENGTHS
        # A thread of its own: see `made_apart`.
        with ThreadPoolExecutor(1) as pool:
            _found[key] = pool.submit(_agrees, model, lengths).result()
        if not _found[key]:
            warnings.warn(_WARNING, NotBitExact, stacklevel=3)
    return _found[key]


_WARNING = (
    "results on this device depend on the number of rows in a batch: confidences, and tokens at"
    " near-ties, may differ between batches (Engine.is_bit_exact is False)"
)


@torch.inference_mode()
def _agrees(model: DreamModel, lengths: list[int]) -> bool:
    """Whether a block, the head and the sampler give a row the same bits alone and in a batch."""
    with on_device(model.device):
        return _all_agree(model, lengths)


def _all_agree(model: DreamModel, lengths: list[int]) -> bool:
    random = torch.Generator().manual_seed(0)
    x_TE = torch.randn(sum(lengths), model.config.hidden_size, generator=random)
    x_TE = x_TE.to(model.device, model.dtype)
    hidden_TE = _block(model, x_TE, lengths)
    # As many rows as a step samples at a time, for any vocabulary.
    head_NE = hidden_TE[: sum(LENGTHS)]
    logits_NV = model.logits(head_NE)
    logits = [model.logits(rows) for rows in torch.split(head_NE, LOGIT_ROWS)]
    return (
        _blocks_agree(model, x_TE, hidden_TE, lengths)
        and _is_same(logits_NV, logits)
        and _is_same(_entropies(logits_NV), [_entropies(rows) for rows in logits])
    )


def _blocks_agree(model: DreamModel, x_TE: Tensor, hidden_TE: Tensor, lengths: list[int]) -> bool:
    parts = torch.split(x_TE, lengths)
    ends = torch.tensor(lengths, device=x_TE.device).cumsum(0)
    lasts = [_block(model, x, [len(x)], torch.tensor([len(x) - 1], device=x.device)) for x in parts]
    if all(module.joined is None for module in model.modules() if isinstance(module, Attention)):
        return _is_same(hidden_TE[ends - 1], lasts)
    # Joined products are for whole sequences: the last block of a model, for some rows, has none.
    last_NE = _block(model, x_TE, lengths, ends - 1)
    alone = [_block(model, x, [len(x)]) for x in parts]
    return _is_same(hidden_TE, alone) and _is_same(last_NE, lasts)


def _entropies(logits_NV: Tensor) -> Tensor:
    """As the sampler of this device computes them."""
    is_cuda = logits_NV.device.type == "cuda"
    sure = certainty_of(row_stats(logits_NV)) if is_cuda else certainty(logits_NV.float())
    return sure.entropies_N


def _block(
    model: DreamModel, x_TE: Tensor, lengths: list[int], wanted_N: Tensor | None = None
) -> Tensor:
    """The first block over these sequences: every row, or one wanted row of each."""
    layout = PackedLayout.of(lengths, x_TE.device)
    if wanted_N is not None:
        layout = layout.wanting(wanted_N, [1] * len(lengths))
    rotary = Rotary.of(model.config, layout.positions_T, x_TE.dtype)
    out_NE: Tensor = model.model.layers[0](x_TE, rotary, layout, model.backend, layout.wanted)
    return out_NE


def _is_same(together: Tensor, alone: Sequence[Tensor]) -> bool:
    """Whether the bits are equal: those of NaN, too."""
    return torch.equal(together.view(torch.uint8), torch.cat(list(alone)).view(torch.uint8))
