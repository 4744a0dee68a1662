"""Tensor parallelism: which weights each process holds a part of (torch's DTensor).

Query, key, value, gate and up projections are split by columns, and so are whole heads; output
and down projections by rows, with one sum over the processes each; the head by vocabulary, whose
logits are gathered. Norms and the embedding are whole everywhere. All processes run the same
engine on the same requests, and draw the same tokens because noise is keyed.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from dream.memory import check_degree
from dream.model.modeling import DreamModel

__all__ = ["parallelize", "shard_like"]


def parallelize(model: DreamModel, mesh: DeviceMesh) -> None:
    """Split the weights of the model, on any device, into parts over the mesh."""
    check_degree(model.config.sizes, mesh.size())
    plan: dict[str, ParallelStyle] = {"lm_head": ColwiseParallel(output_layouts=Replicate())}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        plan[f"model.layers.*.{name}"] = ColwiseParallel()
    for name in ("mlp.gate_proj", "mlp.up_proj"):
        plan[f"model.layers.*.{name}"] = ColwiseParallel()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        plan[f"model.layers.*.{name}"] = RowwiseParallel()
    parallelize_module(model, mesh, plan)


def shard_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """This process's part of a whole tensor, split as the parameter is; no process sends any."""
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(
        tensor, parameter.device_mesh, parameter.placements, src_data_rank=None
    )
