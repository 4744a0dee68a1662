"""The network as it is trained: model and loss in one forward, placed on one process or many.

Letters: T packed tokens, N masked tokens, V task variants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from dream.errors import CheckpointError
from dream.model.attention import PackedLayout
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel, compile_blocks
from jobs.train.batch import Batch
from jobs.train.config import TrainSpec
from jobs.train.objective import focal, shifted_cross_entropy

__all__ = ["Losses", "Masked", "Objective", "build", "collate", "fill", "local_of"]
__all__ += ["local_parameters"]


class Masked(NamedTuple):
    """A batch on its device: ids [T] with masks in them, and what is to be predicted [N]."""

    noisy_T: Tensor
    sources_N: Tensor
    targets_N: Tensor
    weights_N: Tensor
    variants_N: Tensor
    layout: PackedLayout


class Losses(NamedTuple):
    """Sums over the masked tokens: the weighted loss, and for each variant [V] CE and tokens."""

    weighted: Tensor
    entropy_V: Tensor
    tokens_V: Tensor


class Objective(nn.Module):
    """The model and its loss in one forward: DDP and FSDP see every parameter used."""

    def __init__(self, model: DreamModel, spec: TrainSpec, num_variants: int) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        self.num_variants = num_variants

    def forward(self, batch: Masked) -> Losses:
        """Shifted cross-entropy of the masked tokens; the caller divides the weighted sum."""
        device = batch.noisy_T.device.type
        lowered = torch.autocast(device, torch.bfloat16, enabled=self.spec.dtype == "bfloat16")
        with lowered, _attention(device):
            hidden_TE = self.model(batch.noisy_T, batch.layout)
            logits_NV = self.model.logits(hidden_TE[batch.sources_N])
        entropy_N = loss_N = shifted_cross_entropy(logits_NV, batch.targets_N)
        if self.spec.focal_gamma is not None:
            loss_N = focal(entropy_N, alpha=self.spec.focal_alpha, gamma=self.spec.focal_gamma)
        told_N = entropy_N.detach()
        return Losses(
            weighted=(loss_N * batch.weights_N).sum(),
            entropy_V=told_N.new_zeros(self.num_variants).index_add_(0, batch.variants_N, told_N),
            tokens_V=torch.bincount(batch.variants_N, minlength=self.num_variants),
        )


def collate(batch: Batch, mask_id: int, device: torch.device | str) -> Masked:
    """The batch as tensors; a token is predicted from the row before it, the first from its own."""
    starts_B = np.cumsum(batch.lengths) - batch.lengths
    start_T = np.repeat(starts_B, batch.lengths)
    targets_N = np.flatnonzero(batch.is_masked)
    noisy_T = np.where(batch.is_masked, mask_id, batch.token_ids)
    sources_N = np.maximum(targets_N - 1, start_T[targets_N])
    variants_N = np.repeat(batch.variants, batch.lengths)[targets_N]
    return Masked(
        noisy_T=torch.from_numpy(noisy_T).to(device),
        sources_N=torch.from_numpy(sources_N).to(device),
        targets_N=torch.from_numpy(batch.token_ids[targets_N]).to(device),
        weights_N=torch.from_numpy(batch.weights[targets_N]).to(device),
        variants_N=torch.from_numpy(variants_N).to(device),
        layout=PackedLayout.of(batch.lengths.tolist(), device),
    )


def build(
    config: DreamConfig,
    spec: TrainSpec,
    num_variants: int,
    weights: Iterable[tuple[str, Tensor]],
    device: torch.device,
) -> nn.Module:
    """The objective with these weights, wrapped as `spec.parallel` says, ready to be called."""
    with torch.device("meta"):
        objective = Objective(DreamModel(config), spec, num_variants).train()
    if spec.recompute:
        again = partial(_recomputing, device.type)
        for block in objective.model.model.layers:
            block.forward = partial(
                checkpoint, block.forward, use_reentrant=False, context_fn=again
            )
    if spec.compile:
        compile_blocks(objective.model)
    if spec.parallel == "fsdp":
        _shard(objective, spec)
    objective.to_empty(device=device)
    fill(dict(objective.model.named_parameters()), weights)
    if spec.parallel == "ddp" and dist.is_initialized() and dist.get_world_size() > 1:
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=ids)
    return objective


def fill(parameters: Mapping[str, Tensor], weights: Iterable[tuple[str, Tensor]]) -> None:
    """Copy the weights into their parameters, each worker its own shard; all have to be there."""
    missing = set(parameters)
    with torch.no_grad():
        for name, tensor in weights:
            if name not in parameters:
                raise CheckpointError(f"unexpected tensor {name}")
            into = parameters[name]
            if tensor.shape != into.shape:
                raise CheckpointError(
                    f"tensor {name} has shape {list(tensor.shape)}, not {list(into.shape)}"
                )
            local_of(into).copy_(_share_of(into, tensor))
            missing.discard(name)
    if missing:
        raise CheckpointError(f"tensor {min(missing)} is missing")


def local_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by their official names, whatever wraps the model."""
    objective = network.module if isinstance(network, DistributedDataParallel) else network
    assert isinstance(objective, Objective)
    return dict(objective.model.named_parameters())


def local_of(tensor: Tensor) -> Tensor:
    """This worker's shard of a parameter; all of it where nothing is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    local: Tensor = tensor.to_local()
    return local.detach()


def _attention(device: str) -> AbstractContextManager[None]:
    """Plain products on CPUs: backward of the fused kernel takes several times as long there."""
    return sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()


def _recomputing(device: str) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a block runs in, and what it runs in again during backward: the same attention."""
    return nullcontext(), _attention(device)


def _share_of(into: Tensor, tensor: Tensor) -> Tensor:
    if not isinstance(into, DTensor):
        return tensor
    mesh, placements = into.device_mesh, into.placements
    on_device = tensor.to(into.device)
    return distribute_tensor(on_device, mesh, placements, src_data_rank=None).to_local()


def _shard(objective: Objective, spec: TrainSpec) -> None:
    """FSDP2: each block is gathered when it is needed, the rest with the whole."""
    lowered = torch.bfloat16 if spec.dtype == "bfloat16" else None
    policy = MixedPrecisionPolicy(
        param_dtype=lowered, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in objective.model.model.layers:
        fully_shard(block, mp_policy=policy)
    fully_shard(objective, mp_policy=policy)
