"""The same weights read as an autoregressive model: causal, with a static cache, greedy.

What a plain decoder of this size gives, to compare with: one token a forward for each sequence,
whole forwards as CUDA graphs, no fused kernels. Its tokens mean nothing: Dream was not trained so.
Letters: B sequences, Q new tokens of each, L places of the cache, E width, G query heads of a
key-value head, K key-value heads, D width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream.model.modeling import DreamModel, Rotary

__all__ = ["CausalDecoder"]


class CausalDecoder:
    """Decodes B sequences of one length; every tensor stays in its place from step to step."""

    def __init__(self, model: DreamModel, num_sequences: int, length: int) -> None:
        shape, device = model.config, model.device
        cache = (num_sequences, shape.num_key_value_heads, length, shape.head_dim)
        self._model = model
        self._keys, self._values = (
            [torch.zeros(cache, device=device, dtype=model.dtype) for _ in model.model.layers]
            for _ in range(2)
        )
        self._places_L = torch.arange(length, device=device)
        self._place_1 = torch.zeros(1, device=device, dtype=torch.int64)
        self.ids_BL = torch.zeros(num_sequences, length, device=device, dtype=torch.int64)

    @torch.inference_mode()
    def start(self, ids_BP: Tensor) -> None:
        """Take prompts of one length, and decode the first token behind them."""
        count = ids_BP.shape[1]
        self.ids_BL[:, :count] = ids_BP
        self._place_1.fill_(count)
        self._put(self._logits(ids_BP, self._places_L[:count]))

    @torch.inference_mode()
    def step(self) -> None:
        """Decode the next token of each sequence."""
        ids_B1 = self.ids_BL.index_select(1, self._place_1)
        logits_BV = self._logits(ids_B1, self._place_1)
        self._place_1.add_(1)
        self._put(logits_BV)

    def _put(self, logits_BV: Tensor) -> None:
        self.ids_BL.index_copy_(1, self._place_1, logits_BV.argmax(-1, keepdim=True))

    def _logits(self, ids_BQ: Tensor, places_Q: Tensor) -> Tensor:
        """Logits [B, V] behind the last of these tokens; their keys and values are kept."""
        network = self._model.model
        x_BQE = network.embed_tokens(ids_BQ)
        rotary = Rotary.of(self._model.config, places_Q, x_BQE.dtype)
        is_before_QL = self._places_L <= places_Q[:, None]
        for layer, block in enumerate(network.layers):
            normed_BQE = block.get_submodule("input_layernorm")(x_BQE)
            attended_BQE = self._attend(layer, block, normed_BQE, rotary, places_Q, is_before_QL)
            x_BQE = x_BQE + attended_BQE
            normed_BQE = block.get_submodule("post_attention_layernorm")(x_BQE)
            x_BQE = x_BQE + block.get_submodule("mlp")(normed_BQE)
        return self._model.logits(x_BQE[:, -1])

    def _attend(
        self,
        layer: int,
        block: nn.Module,
        x_BQE: Tensor,
        rotary: Rotary,
        places_Q: Tensor,
        is_before_QL: Tensor,
    ) -> Tensor:
        """Attention to the cache; the query heads of a key-value head stand side by side."""
        keys_BKLD, values_BKLD = self._keys[layer], self._values[layer]
        heads = (-1, keys_BKLD.shape[-1])
        q, k, v = (
            block.get_submodule(f"self_attn.{name}_proj")(x_BQE).unflatten(-1, heads)
            for name in "qkv"
        )
        keys_BKLD.index_copy_(2, places_Q, rotary.apply(k).transpose(1, 2))
        values_BKLD.index_copy_(2, places_Q, v.transpose(1, 2))
        batch, count = keys_BKLD.shape[:2]
        group, queries = q.shape[2] // count, q.shape[1]
        # A row of queries for each pair of query head and token: keys are never repeated.
        q = rotary.apply(q).transpose(1, 2).reshape(batch, count, group * queries, -1)
        mask = is_before_QL.repeat(group, 1)
        out = F.scaled_dot_product_attention(q, keys_BKLD, values_BKLD, mask)
        out = out.reshape(batch, count, group, queries, -1).permute(0, 3, 1, 2, 4)
        out_BQE = out.flatten(2)
        projected: Tensor = block.get_submodule("self_attn.o_proj")(out_BQE)
        return projected
