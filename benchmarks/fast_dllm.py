"""Fast-dLLM's decoding of Dream, plainly, at batch 1 and temperature 0 (arXiv 2505.22618).

A re-implementation of the rules of NVlabs/Fast-dLLM:dream to compare with: `fill_threshold` runs
every row at each pass, `fill_blocks` keeps keys and values while it works on a block.
Letters: N rows of the canvas, W rows of a window, H query heads, K key-value heads, D width of a
head, E hidden width, V vocabulary, M masks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dream.errors import DreamError
from dream.model.modeling import Attention, Block, DreamModel, Rotary

__all__ = ["Cache", "CacheMode", "Filled", "MasksLeft", "Pass", "fill_blocks", "fill_threshold"]

CacheMode = Literal["prefix", "dual"]


class MasksLeft(DreamError):
    """A run cannot fill its masks: the published loop would leave them, or not end."""


class Pass(NamedTuple):
    """One forward: the canvas it read, its first row, and how many rows it ran."""

    canvas: tuple[int, ...]
    start: int
    rows: int


class Filled(NamedTuple):
    """The filled canvas, and every forward it took."""

    token_ids: tuple[int, ...]
    passes: tuple[Pass, ...]

    @property
    def forward_passes(self) -> int:
        """Forwards, the cached ones too."""
        return len(self.passes)

    @property
    def token_forwards(self) -> int:
        """Rows run, over all forwards."""
        return sum(done.rows for done in self.passes)


class Cache:
    """Rotated keys and values of all N rows in each layer; a forward overwrites the rows it runs.

    Positions are those of the canvas, so that keys rotated once equal keys rotated at each use.
    """

    def __init__(self, model: DreamModel, length: int) -> None:
        config = model.config
        shape = (config.num_hidden_layers, length, config.num_key_value_heads, config.head_dim)
        self._keys = torch.zeros(shape)
        self._values = torch.zeros(shape)
        self._model = model

    @torch.inference_mode()
    def forward(self, token_ids_W: Tensor, start: int) -> Tensor:
        """Unshifted logits [W, V] of the rows from `start`, which attend to all N rows."""
        network = self._model.model
        x_WE: Tensor = network.embed_tokens(token_ids_W)
        window = slice(start, start + len(token_ids_W))
        positions_W = torch.arange(window.start, window.stop)
        rotary = Rotary.of(self._model.config, positions_W, x_WE.dtype)
        for layer, block in enumerate(network.layers):
            assert isinstance(block, Block)
            normed_WE = block.input_layernorm(x_WE)
            x_WE = x_WE + self._attend(block.self_attn, layer, normed_WE, rotary, window)
            x_WE = x_WE + block.mlp(block.post_attention_layernorm(x_WE))
        return self._model.logits(x_WE)

    def _attend(
        self, attention: Attention, layer: int, x_WE: Tensor, rotary: Rotary, window: slice
    ) -> Tensor:
        heads = (-1, attention.head_dim)
        q_WHD = rotary.apply(attention.q_proj(x_WE).unflatten(-1, heads))
        self._keys[layer, window] = rotary.apply(attention.k_proj(x_WE).unflatten(-1, heads))
        self._values[layer, window] = attention.v_proj(x_WE).unflatten(-1, heads)
        groups = q_WHD.shape[1] // self._keys.shape[2]
        k_HND = self._keys[layer].repeat_interleave(groups, dim=1).transpose(0, 1)
        v_HND = self._values[layer].repeat_interleave(groups, dim=1).transpose(0, 1)
        q_HWD = q_WHD.transpose(0, 1)
        out_1HWD = F.scaled_dot_product_attention(q_HWD[None], k_HND[None], v_HND[None])
        out_WE: Tensor = attention.o_proj(out_1HWD[0].transpose(0, 1).flatten(1))
        return out_WE


class _Canvas:
    """The canvas under way: forwards over it, and the tokens they predict."""

    def __init__(self, model: DreamModel, prompt_ids: list[int], max_new_tokens: int) -> None:
        self.mask_id: int = model.config.mask_token_id
        self.token_ids_N = torch.tensor([*prompt_ids, *[self.mask_id] * max_new_tokens])
        self.passes: list[Pass] = []
        self._cache = Cache(model, len(self.token_ids_N))

    def predict(self, start: int, end: int) -> Tensor:
        """Probabilities [W, V] of the tokens at `start` to `end` from a forward over these rows.

        The shift is inside the window: its first row stands for its own token.
        """
        canvas = tuple(self.token_ids_N.tolist())
        self.passes.append(Pass(canvas, start, end - start))
        logits_WV = self._cache.forward(self.token_ids_N[start:end], start)
        return torch.cat([logits_WV[:1], logits_WV[:-1]]).softmax(-1)

    def masked(self, start: int, end: int) -> Tensor:
        """Positions [M] of the masks in `start` to `end`."""
        return (self.token_ids_N[start:end] == self.mask_id).nonzero()[:, 0] + start

    def commit(self, positions: Tensor, token_ids: Tensor) -> None:
        """Write these tokens."""
        self.token_ids_N[positions] = token_ids

    def filled(self) -> Filled:
        """The end of a run; refused where masks are left."""
        num_left = len(self.masked(0, len(self.token_ids_N)))
        if num_left:
            raise MasksLeft(f"{num_left} masks are left after {len(self.passes)} passes")
        return Filled(tuple(self.token_ids_N.tolist()), tuple(self.passes))


def fill_threshold(
    model: DreamModel, prompt_ids: list[int], *, max_new_tokens: int, steps: int, threshold: float
) -> Filled:
    """Threshold without a cache: a quota a step, and what it rejects is carried to the next.

    The surest is always committed. While the last step rejects any, another one follows: at most
    one pass for each mask, besides the steps.
    """
    if max_new_tokens % steps:
        raise ValueError(f"{max_new_tokens} masks are not divisible by {steps} steps")
    canvas = _Canvas(model, prompt_ids, max_new_tokens)
    length = len(canvas.token_ids_N)
    quota, carry, step = max_new_tokens // steps, 0, 0
    while step < steps or carry:
        # Beyond the last step only what was carried is considered.
        allowed = carry + (quota if step < steps else 0)
        probs_NV = canvas.predict(0, length)
        masked_M = canvas.masked(0, length)
        chosen, tokens = _most_certain(probs_NV[masked_M], allowed, threshold)
        canvas.commit(masked_M[chosen], tokens)
        carry = allowed - len(chosen)
        step += 1
    return canvas.filled()


def fill_blocks(
    model: DreamModel,
    prompt_ids: list[int],
    *,
    max_new_tokens: int,
    block_length: int,
    cache: CacheMode,
    threshold: float | None,
    steps: int,
    eps: float = 1e-3,
) -> Filled:
    """Blocks with cached keys and values: one full forward a block, which commits its first mask.

    `dual` then runs the block, `prefix` all from the block's start to the end, until it has no
    mask. Without a threshold a block has steps / blocks passes and ranks by negative entropy.
    """
    num_blocks, rest = divmod(max_new_tokens, block_length)
    if rest or steps % num_blocks:
        raise ValueError(f"{max_new_tokens} masks, {steps} steps: not in blocks of {block_length}")
    canvas = _Canvas(model, prompt_ids, max_new_tokens)
    length = len(canvas.token_ids_N)
    for start in range(len(prompt_ids), length, block_length):
        block = (start, start + block_length)
        window_end = block[1] if cache == "dual" else length
        first = canvas.predict(0, length)[start].argmax()
        canvas.commit(torch.tensor([start]), first[None])
        if threshold is None:
            _fill_by_timetable(canvas, block, window_end, steps // num_blocks, eps)
        else:
            _fill_by_threshold(canvas, block, window_end, threshold)
    return canvas.filled()


def _fill_by_threshold(
    canvas: _Canvas, block: tuple[int, int], window_end: int, threshold: float
) -> None:
    """Passes until the block has no mask; one that fills none would be repeated for ever."""
    while len(masked_M := canvas.masked(*block)):
        probs_WV = canvas.predict(block[0], window_end)
        probs_MV = probs_WV[masked_M - block[0]]
        chosen, tokens = _most_certain(probs_MV, len(masked_M), threshold)
        canvas.commit(masked_M[chosen], tokens)
        if (tokens == canvas.mask_id).all():
            raise MasksLeft(f"a pass over block {block} predicted nothing but the mask id")


def _fill_by_timetable(
    canvas: _Canvas, block: tuple[int, int], window_end: int, passes: int, eps: float
) -> None:
    """The passes of Dream's timetable from the second on: the block's full forward is the first."""
    timesteps = torch.linspace(1, eps, passes + 1)
    for i in range(1, passes):
        masked_M = canvas.masked(*block)
        if not len(masked_M):
            return
        probs_MV = canvas.predict(block[0], window_end)[masked_M - block[0]]
        share = 1 - timesteps[i + 1] / timesteps[i]
        count = int(len(masked_M) * share) if i < passes - 1 else len(masked_M)
        entropy_M = -(probs_MV * (probs_MV + 1e-10).log()).sum(-1)
        chosen = entropy_M.argsort(stable=True)[:count]
        canvas.commit(masked_M[chosen], probs_MV[chosen].argmax(-1))


def _most_certain(probs_MV: Tensor, allowed: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Of the `allowed` surest masks: the first, and all that reach the threshold; their tokens."""
    sure_M, tokens_M = probs_MV.max(-1)
    ranked = sure_M.argsort(descending=True, stable=True)[:allowed]
    is_chosen = sure_M[ranked] >= threshold
    is_chosen[0] = True
    chosen = ranked[is_chosen]
    return chosen, tokens_M[chosen]
