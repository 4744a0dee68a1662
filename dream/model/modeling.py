"""Dream's network on packed rows: a Qwen2 block without causality (`modeling_dream.py`).

Letters: T packed rows, U key rows, N selected rows, E hidden width, I inner width, H query heads,
K key-value heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream.model.attention import BACKENDS, PackedLayout, Segments, Wanted
from dream.model.bits import LEAST_ROWS, Linear, Product, by_onednn
from dream.model.config import DreamConfig
from dream.model.leaves import PLAIN, Leaves

__all__ = ["DreamModel", "arrange_rows", "compile_blocks"]


class RMSNorm(nn.Module):
    """Root-mean-square norm."""

    leaves: Leaves = PLAIN

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_TE: Tensor) -> Tensor:
        return self.leaves.norm(x_TE, self.weight, self.eps)

    def add(self, x_TE: Tensor, more_TE: Tensor) -> tuple[Tensor, Tensor]:
        """x + more, and the norm of it."""
        return self.leaves.add_norm(x_TE, more_TE, self.weight, self.eps)


class Attention(nn.Module):
    """Bidirectional grouped-query attention with rotary positions.

    joined: its first three products as one, where `join_products` made one.
    """

    leaves: Leaves = PLAIN
    joined: Product | None = None

    def __init__(self, config: DreamConfig, layer: int) -> None:
        super().__init__()
        self._layer = layer
        width, self.head_dim = config.hidden_size, config.head_dim
        kv_width = config.num_key_value_heads * self.head_dim
        self.q_proj = Linear(width, width, bias=True)
        self.k_proj = Linear(width, kv_width, bias=True)
        self.v_proj = Linear(width, kv_width, bias=True)
        self.o_proj = Linear(width, width, bias=False)

    def forward(
        self,
        x_TE: Tensor,
        rotary: Rotary,
        layout: PackedLayout,
        backend: str,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """What every row, or every wanted row, takes from the rows it attends to."""
        q_THD, k_UKD, v_UKD = self._project(x_TE, rotary, wanted)
        if layout.cached is not None:
            cached = layout.cached
            k_UKD, v_UKD = cached.cache.merge(self._layer, k_UKD, v_UKD, cached)
        segments = layout.segments if wanted is None else wanted.segments
        attended_TE = self.attend(backend, q_THD, k_UKD, v_UKD, segments).flatten(1)
        out_TE: Tensor = self.o_proj(attended_TE)
        return out_TE

    def _project(
        self, x_TE: Tensor, rotary: Rotary, wanted: Wanted | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the wanted rows, keys and values of all; the first two are rotated."""
        heads = (-1, self.head_dim)
        if self.joined is not None and wanted is None:
            num_kept = self.k_proj.out_features // self.head_dim
            joined_THD = torch.unflatten(self.joined(x_TE), -1, heads)
            rotated_THD = rotary.apply(joined_THD[:, :-num_kept], self.leaves)
            return (
                rotated_THD[:, :-num_kept],
                rotated_THD[:, -num_kept:],
                joined_THD[:, -num_kept:],
            )
        k_UKD = rotary.apply(self.k_proj(x_TE).unflatten(-1, heads), self.leaves)
        v_UKD = self.v_proj(x_TE).unflatten(-1, heads)
        if wanted is not None:
            x_TE, rotary = x_TE[wanted.rows_N], rotary.at(wanted.rows_N)
        q_THD = rotary.apply(self.q_proj(x_TE).unflatten(-1, heads), self.leaves)
        return q_THD, k_UKD, v_UKD

    def attend(
        self, backend: str, q_THD: Tensor, k_UKD: Tensor, v_UKD: Tensor, segments: Segments
    ) -> Tensor:
        """Attention itself, by the backend of this name; what compiled blocks leave out."""
        return BACKENDS[backend](q_THD, k_UKD, v_UKD, segments)


class MLP(nn.Module):
    """SwiGLU.

    joined: its first two products as one, where `join_products` made one.
    """

    leaves: Leaves = PLAIN
    joined: Product | None = None

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = Linear(width, inner, bias=False)
        self.up_proj = Linear(width, inner, bias=False)
        self.down_proj = Linear(inner, width, bias=False)

    def forward(self, x_TE: Tensor) -> Tensor:
        if self.joined is None:
            gate_TI, up_TI = self.gate_proj(x_TE), self.up_proj(x_TE)
        else:
            gate_TI, up_TI = self.joined(x_TE).chunk(2, -1)
        out_TE: Tensor = self.down_proj(self.leaves.gate(gate_TI, up_TI))
        return out_TE


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, config: DreamConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x_TE: Tensor,
        rotary: Rotary,
        layout: PackedLayout,
        backend: str,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """The rows [T, E] after this block, or the wanted ones alone [N, E]."""
        attended_TE = self.self_attn(self.input_layernorm(x_TE), rotary, layout, backend, wanted)
        x_TE = x_TE if wanted is None else x_TE[wanted.rows_N]
        x_TE, normed_TE = self.post_attention_layernorm.add(x_TE, attended_TE)
        out_TE: Tensor = x_TE + self.mlp(normed_TE)
        return out_TE


class Rotary:
    """cos and sin of the packed positions: angles in float32, cast before use (half-split)."""

    def __init__(self, cos_T1D: Tensor, sin_T1D: Tensor) -> None:
        self.cos_T1D = cos_T1D
        self.sin_T1D = sin_T1D

    @classmethod
    def of(cls, config: DreamConfig, positions_T: Tensor, dtype: torch.dtype) -> Rotary:
        """The rotation of each row."""
        half = torch.arange(0, config.head_dim, 2, device=positions_T.device).float()
        inv_freq = 1.0 / config.rope_theta ** (half / config.head_dim)
        angles = positions_T.float()[:, None] * inv_freq
        angles_T1D = torch.cat((angles, angles), -1)[:, None, :]
        return cls(angles_T1D.cos().to(dtype), angles_T1D.sin().to(dtype))

    def at(self, rows_N: Tensor) -> Rotary:
        """The rotation of some rows."""
        return Rotary(self.cos_T1D[rows_N], self.sin_T1D[rows_N])

    def apply(self, x_THD: Tensor, leaves: Leaves = PLAIN) -> Tensor:
        """Rotate each head of each row by its position."""
        return leaves.rotate(x_THD, self.cos_T1D, self.sin_T1D)


class Backbone(nn.Module):
    """Embedding, blocks and final norm; named `model` in the checkpoint."""

    def __init__(self, config: DreamConfig) -> None:
        super().__init__()
        weight_VE = torch.empty(config.vocab_size, config.hidden_size)
        if not weight_VE.is_meta:  # there torch would import its compiler, and draw nothing
            nn.init.normal_(weight_VE)
        self.embed_tokens = nn.Embedding(len(weight_VE), config.hidden_size, _weight=weight_VE)
        self.layers = nn.ModuleList(Block(config, n) for n in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class DreamModel(nn.Module):
    """The published parameter names over a packed forward; it contains `lm_head`.

    `forward` gives hidden states before the final norm; `logits` turns chosen rows of them
    into logits. Row i predicts token i + 1 (Dream's shift): whoever reads logits applies it.
    """

    def __init__(self, config: DreamConfig, backend: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.backend = backend

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are stored in."""
        return self.lm_head.weight.dtype

    @property
    def makes_logits(self) -> bool:
        """Whether what multiplies the head makes its result anew, and cannot write it elsewhere."""
        weight = self.lm_head.weight
        return by_onednn(weight, weight)

    def forward(self, input_ids: Tensor, layout: PackedLayout) -> Tensor:
        """Hidden states before the final norm, for token ids [T] packed by `layout`.

        [T, E], or [N, E] for the rows that the layout wants: the last block computes no others.
        """
        x_TE: Tensor = self.model.embed_tokens(input_ids)
        rotary = Rotary.of(self.config, layout.positions_T, x_TE.dtype)
        *blocks, last = self.model.layers
        for block in blocks:
            x_TE = block(x_TE, rotary, layout, self.backend)
        out_NE: Tensor = last(x_TE, rotary, layout, self.backend, layout.wanted)
        return out_NE

    def logits(self, hidden_NE: Tensor, out_NV: Tensor | None = None) -> Tensor:
        """Logits [N, V] in the model's dtype, for rows of `forward`'s result; in `out_NV` if given.

        A CPU takes new pages for every large result, which costs as much as half the product; the
        logits of very few rows are always new.
        """
        normed_NE = self.model.norm(hidden_NE)
        is_room = out_NV is not None and len(out_NV) >= LEAST_ROWS and not self.makes_logits
        if is_room and not self.lm_head.is_tiled:
            return torch.mm(normed_NE, self.lm_head.weight.t(), out=out_NV)
        logits_NV: Tensor = self.lm_head(normed_NE)
        return logits_NV


def arrange_rows(model: DreamModel, leaves: Leaves, *, is_tiled: bool) -> None:
    """Set what is done to each row between the products, and whether products are tiled.

    In tiles the bits of a row do not depend on how many rows there are.
    """
    for module in model.modules():
        if isinstance(module, RMSNorm | Attention | MLP):
            module.leaves = leaves
        if isinstance(module, Linear):
            module.is_tiled = is_tiled
        if isinstance(module, Attention | MLP) and module.joined is not None:
            module.joined = module.joined._replace(is_tiled=is_tiled)


def compile_blocks(model: DreamModel) -> None:
    """Compile every block but its attention, whose loop would be compiled anew for every layout.

    Attention is marked here and not where it stands: the mark imports the compiler, which takes
    longer than all of torch, and an engine needs none.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            left_out = torch.compiler.disable(module.attend)  # type: ignore[no-untyped-call]
            module.attend = left_out  # type: ignore[method-assign]
        if isinstance(module, Block):
            module.compile(dynamic=True)
