"""Weights of the blocks in 8 bits, through torchao: an approximate mode for less memory.

A weight is rounded to int8 or float8, with a scale for each output, and multiplied in the dtype of
the activations. Embedding, norms, biases and the output head stay as they are.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from dream.errors import MissingExtra

__all__ = ["check_quantizer", "quantized_weight"]

OF_BLOCK = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj\.weight")
"""Names of the weights that are put in 8 bits."""


def check_quantizer(dtype: str) -> None:
    """MissingExtra where torchao is not installed."""
    if find_spec("torchao") is None:
        raise MissingExtra(f"dtype {dtype} needs torchao: pip install 'dream-cluster[quant]'")


def quantized_weight(name: str, weight: Tensor, dtype: str) -> Tensor:
    """The parameter of this name as it is kept: in 8 bits if it is a weight of a block's layer."""
    if OF_BLOCK.fullmatch(name) is None:
        return weight
    # torchao takes seconds to import, and only this mode needs it.
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig() if dtype == "int8" else Float8WeightOnlyConfig()
    layer = nn.Linear(1, 1, bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    with torch.no_grad():
        quantize_(layer, config)
    return layer.weight
