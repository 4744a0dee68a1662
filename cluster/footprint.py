"""How much GPU memory a model of Dream's shape needs: weights, activations, logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

from cluster.errors import SpecError

__all__ = ["DREAM_7B", "GIB", "MAX_GIB", "DType", "ModelFootprint", "checked_dtype"]

DType = Literal["bfloat16", "float16", "float32"]

GIB = 2**30

MAX_GIB = 2**30
"""More than any GPU has, and little enough to compute with."""

_BYTES: dict[DType, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
_FLOAT32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFootprint:
    """Shape and dtype of a checkpoint under the names of its config.json.

    The layer is Qwen2's (`modeling_dream.py`, published with Dream-org/Dream-v0-Instruct-7B):
    bias on q, k and v only, SwiGLU, RMSNorm, embedding and output head not tied.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    dtype: DType

    @classmethod
    def from_config(cls, config: Mapping[str, object], dtype: str) -> ModelFootprint:
        """Footprint of a Dream config.json, whose `head_dim` is hidden_size / heads if absent."""
        hidden = _positive(config, "hidden_size")
        heads = _positive(config, "num_attention_heads")
        if "head_dim" not in config and hidden % heads:
            raise SpecError("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
        return cls(
            hidden_size=hidden,
            num_hidden_layers=_positive(config, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=_positive(config, "num_key_value_heads"),
            head_dim=_positive(config, "head_dim") if "head_dim" in config else hidden // heads,
            intermediate_size=_positive(config, "intermediate_size"),
            vocab_size=_positive(config, "vocab_size"),
            dtype=checked_dtype(dtype),
        )

    @property
    def tensor_parallel_sizes(self) -> tuple[int, ...]:
        """Every number of ranks that splits KV heads, heads and MLP evenly, ascending."""
        heads = gcd(self.num_key_value_heads, self.num_attention_heads)
        common = gcd(heads, self.intermediate_size)
        return tuple(size for size in range(1, common + 1) if common % size == 0)

    @property
    def num_parameters(self) -> int:
        """All weights: the split projections plus what every rank holds whole."""
        return self._split_parameters + self._whole_parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights in `dtype`."""
        return self.num_parameters * _BYTES[self.dtype]

    @property
    def logit_bytes_per_row(self) -> int:
        """One row over the vocabulary: in `dtype`, in float32, and one float32 temporary."""
        return self.vocab_size * (_BYTES[self.dtype] + 2 * _FLOAT32)

    def weight_bytes_per_rank(self, tensor_parallel: int) -> int:
        """Bytes of one rank's slice: q, k, v, o, gate, up and down split (arXiv:1909.08053).

        Embedding, head and norms count whole, an upper bound also where the head is split.
        """
        split = -(-self._split_parameters // tensor_parallel)
        return (split + self._whole_parameters) * _BYTES[self.dtype]

    def activation_bytes_per_row(self, tensor_parallel: int) -> int:
        """Bytes live for one packed row at the fullest point of a layer.

        MLP: residual, normed input and output (3 hidden), gate, up and product (3 MLP slices).
        Attention: residual and normed input, q twice (rotated copy), output, k twice and v.
        Norm: residual and output in `dtype`, input and square in float32.
        """
        size = _BYTES[self.dtype]
        hidden = self.hidden_size
        mlp_slice = -(-self.intermediate_size // tensor_parallel)
        q_slice = -(-self.num_attention_heads * self.head_dim // tensor_parallel)
        kv_slice = -(-self.num_key_value_heads * self.head_dim // tensor_parallel)
        mlp = size * (3 * hidden + 3 * mlp_slice)
        attention = size * (2 * hidden + 3 * q_slice + 3 * kv_slice)
        norm = (2 * size + 2 * _FLOAT32) * hidden
        return max(mlp, attention, norm)

    def memory_bytes(self, tensor_parallel: int, max_rows: int, max_logit_rows: int) -> int:
        """Bytes one GPU needs: weight slice + packed rows of activations + rows of logits."""
        weights = self.weight_bytes_per_rank(tensor_parallel)
        activations = max_rows * self.activation_bytes_per_row(tensor_parallel)
        return weights + activations + max_logit_rows * self.logit_bytes_per_row

    @property
    def _split_parameters(self) -> int:
        q_width = self.num_attention_heads * self.head_dim
        kv_width = self.num_key_value_heads * self.head_dim
        qkv = (self.hidden_size + 1) * (q_width + 2 * kv_width)
        output = q_width * self.hidden_size
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (qkv + output + mlp)

    @property
    def _whole_parameters(self) -> int:
        norms = (2 * self.num_hidden_layers + 1) * self.hidden_size
        return 2 * self.vocab_size * self.hidden_size + norms


DREAM_7B = ModelFootprint(
    hidden_size=3584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    head_dim=128,
    intermediate_size=18944,
    vocab_size=152064,
    dtype="bfloat16",
)
"""Dream 7B, Base and Instruct alike, as published."""


def checked_dtype(dtype: str) -> DType:
    """`dtype` as one of the three that a checkpoint may be loaded in."""
    for name in _BYTES:
        if dtype == name:
            return name
    raise SpecError("dtype", dtype, "one of " + ", ".join(_BYTES))


def _positive(config: Mapping[str, object], key: str) -> int:
    if key not in config:
        raise SpecError(key, None, "the model's config.json must have it")
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise SpecError(key, value, "an integer >= 1 and < 2**31")
    return value
