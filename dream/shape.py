"""The sizes of a model, and by which numbers of processes they divide. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import gcd

from dream.dtypes import QUANTIZED
from dream.errors import InvalidRequest

__all__ = ["DREAM_7B", "ModelShape", "check_degree", "valid_degrees"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a checkpoint, under the names of its config.json.

    The layer is Qwen2's: bias on query, key and value alone, embedding and output head not tied.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> ModelShape:
        """The shape in a Dream config.json; InvalidRequest names a size that is wrong."""
        names = [field.name for field in fields(cls) if field.name != "head_dim"]
        sizes = {name: _size(config, name) for name in names}
        width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
        if width % heads:
            raise InvalidRequest("num_attention_heads", heads, f"a divisor of hidden_size={width}")
        if heads % sizes["num_key_value_heads"]:
            allowed = f"a divisor of num_attention_heads={heads}"
            raise InvalidRequest("num_key_value_heads", sizes["num_key_value_heads"], allowed)
        if config.get("head_dim") not in (None, width // heads):
            allowed = f"{width // heads}, which is hidden_size / num_attention_heads"
            raise InvalidRequest("head_dim", config["head_dim"], allowed)
        return cls(head_dim=width // heads, **sizes)


DREAM_7B = ModelShape(
    hidden_size=3584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    head_dim=128,
    intermediate_size=18_944,
    vocab_size=152_064,
    max_position_embeddings=131_072,
)
"""Dream 7B, Base and Instruct alike, as published."""


def valid_degrees(shape: ModelShape, dtype: str = "float32") -> tuple[int, ...]:
    """Every number of processes that splits the model evenly, ascending; in 8 bits only 1."""
    if dtype in QUANTIZED:
        return (1,)
    common = gcd(*_split_sizes(shape).values())
    return tuple(degree for degree in range(1, common + 1) if common % degree == 0)


def check_degree(shape: ModelShape, degree: int) -> None:
    """InvalidRequest where the heads, the MLP or the vocabulary do not divide by the degree."""
    if degree not in valid_degrees(shape):
        degrees = ", ".join(map(str, valid_degrees(shape)))
        sizes = ", ".join(f"{name}={size}" for name, size in _split_sizes(shape).items())
        raise InvalidRequest("tensor_parallel", degree, f"one of {degrees}: it divides {sizes}")


def _split_sizes(shape: ModelShape) -> dict[str, int]:
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
    return {name: getattr(shape, name) for name in names}


def _size(config: Mapping[str, object], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise InvalidRequest(name, value, "an integer >= 1 and < 2**31, in the model's config.json")
    return value
