"""Products of the same rows as one: query, key and value, and gate and up.

Letters: N rows, E input width.
"""

from __future__ import annotations

import torch
from torch import nn

from dream.model.bits import Linear, Product
from dream.model.modeling import MLP, Attention, DreamModel

__all__ = ["join_products"]


@torch.no_grad()
def join_products(model: DreamModel) -> None:
    """Lay the weights of such products side by side; call it once the model is loaded.

    The parameters keep their names and values, as views: what is copied into one of them is in
    the joined weight too. No more than one layer's weights exist twice. What is trained, or is no
    plain tensor (quantised weights), stays as it is.
    """
    for module in model.modules():
        if isinstance(module, Attention) and module.joined is None:
            module.joined = _joined(module.q_proj, module.k_proj, module.v_proj)
        elif isinstance(module, MLP) and module.joined is None:
            module.joined = _joined(module.gate_proj, module.up_proj)
        if isinstance(module, MLP) and model.device.type == "cuda":
            torch.cuda.empty_cache()  # what is freed is too small for the next joined weight


def _joined(*layers: Linear) -> Product | None:
    """The product of all these layers, whose parameters become parts of it."""
    weights = [layer.weight for layer in layers]
    if any(type(weight) is not nn.Parameter or weight.requires_grad for weight in weights):
        return None
    sizes = [layer.out_features for layer in layers]
    weight = torch.cat([layer.weight for layer in layers])
    for layer, part in zip(layers, torch.split(weight, sizes), strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)
    if layers[0].bias is None:
        return Product(weight)
    bias = torch.cat([layer.bias for layer in layers])
    for layer, part in zip(layers, torch.split(bias, sizes), strict=True):
        layer.bias = nn.Parameter(part, requires_grad=False)
    return Product(weight, bias)
