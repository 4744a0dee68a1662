"""Tensor parallelism: which weights each process holds a part of, and what it takes from others.

Query, key, value, gate and up projections are split by columns, and so are whole heads; output
and down projections by rows, with one sum over the processes each; the head by vocabulary, whose
logits are gathered (Megatron-LM, arXiv 1909.08053). Norms and the embedding are whole everywhere.
All processes run the same engine on the same requests, and draw the same tokens because noise is
keyed.

Letters: N rows, E input width, V vocabulary, P processes.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from dream.errors import InvalidRequest
from dream.memory import check_degree
from dream.model.bits import Linear
from dream.model.modeling import DreamModel

__all__ = ["check_processes", "parallelize", "part_of"]

HEAD = "lm_head"
SPLIT_OUTPUT = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", HEAD)
SPLIT_INPUT = ("o_proj", "down_proj")


class SummedLinear(Linear):
    """A layer that multiplies its part of the input; the processes add up what they get."""

    def forward(self, x_NE: Tensor) -> Tensor:
        out: Tensor = super().forward(x_NE)
        dist.all_reduce(out)
        return out


class GatheredLinear(Linear):
    """A layer that makes its part of the output; every process gets all parts."""

    def forward(self, x_NE: Tensor) -> Tensor:
        own: Tensor = super().forward(x_NE)
        num_rows, num_columns = own.shape
        parts_PNV = own.new_empty(dist.get_world_size(), num_rows, num_columns)
        dist.all_gather_into_tensor(parts_PNV.flatten(0, 1), own.contiguous())
        return parts_PNV.transpose(0, 1).flatten(1)


def check_processes(degree: int) -> None:
    """InvalidRequest where the weights cannot be shared, as there are fewer or more processes."""
    size = dist.get_world_size() if degree > 1 and dist.is_initialized() else 1
    if size != degree:
        allowed = f"{size}, the number of processes of torch.distributed"
        raise InvalidRequest("tensor_parallel", degree, allowed)


def parallelize(model: DreamModel, degree: int) -> None:
    """Leave every layer of a model on the meta device the size of this process's part.

    `degree` is the number of processes of torch.distributed's default group.
    """
    check_degree(model.config.sizes, degree)
    for path, layer in list(model.named_modules()):
        name = path.rpartition(".")[2]
        if not isinstance(layer, Linear) or name not in (*SPLIT_OUTPUT, *SPLIT_INPUT):
            continue
        kind = SummedLinear if name in SPLIT_INPUT else GatheredLinear if name == HEAD else Linear
        is_input = name in SPLIT_INPUT
        with torch.device("meta"):
            part = kind(
                layer.in_features // degree if is_input else layer.in_features,
                layer.out_features if is_input else layer.out_features // degree,
                bias=layer.bias is not None,
            )
        model.set_submodule(path, part)


def part_of(name: str, tensor: Tensor, degree: int) -> Tensor:
    """This process's part of the whole tensor of a parameter, by the parameter's name."""
    if degree == 1:
        return tensor
    layer = name.split(".")[-2]
    if layer in SPLIT_OUTPUT:
        return tensor.chunk(degree)[dist.get_rank()].clone()
    if layer in SPLIT_INPUT:
        return tensor.chunk(degree, dim=1)[dist.get_rank()].clone()
    return tensor
