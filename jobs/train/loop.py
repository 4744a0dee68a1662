"""The training loop of one worker: forward and backward, clip, step, average, tell, save.

The loss of an update is the sum of w * CE over the masked tokens of the whole batch, divided by
their number, however many workers and micro-batches the batch is spread over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Muon, Optimizer

from dream.model.config import DreamConfig
from jobs.common.errors import JobError
from jobs.train.batch import Batch, split
from jobs.train.checkpoint import Progress, TrainState
from jobs.train.config import TrainSpec
from jobs.train.metrics import Line
from jobs.train.model import first_weights
from jobs.train.network import Losses, build, collate, local_of, local_parameters

__all__ = ["Sums", "new_state", "rate", "run_updates"]


@dataclass(slots=True)
class Sums:
    """What the updates since the last line of the metrics add up to, on this worker."""

    updates: int = 0
    loss: float | Tensor = 0.0
    entropy_V: float | Tensor = 0.0
    tokens_V: float | Tensor = 0.0
    since: float = field(default_factory=time.monotonic)
    tokens: int = 0


def new_state(
    spec: TrainSpec, config: DreamConfig, num_variants: int, device: torch.device
) -> TrainState:
    """The state before the first update."""
    weights = first_weights(spec, config)
    network = build(config, spec, num_variants, weights, device)
    parameters = local_parameters(network)
    average = {} if spec.ema is None else {n: local_of(p).clone() for n, p in parameters.items()}
    return TrainState(network, parameters, average, _optimizers(parameters, spec), Progress())


def run_updates(
    state: TrainState,
    batches: Iterable[Batch],
    spec: TrainSpec,
    *,
    mask_id: int,
    variant_names: tuple[str, ...],
    last: int,
    tell: Callable[[Line], None],
    save: Callable[[], None],
) -> None:
    """Train on the batches; `tell` takes a line of numbers, `save` is called when one is due."""
    sums = Sums()
    for batch in batches:
        norm = _update(state, batch, spec, mask_id, last, sums)
        done = state.progress.updates
        if done % spec.log_every == 0 or done == last:
            tell(_line(state, sums, norm, spec, variant_names, last))
            sums = Sums()
        if done % spec.checkpoint_every == 0 or done == last:
            _refuse_broken(state)
            save()


def rate(update: int, spec: TrainSpec, last: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to `least_rate` of it."""
    if update < spec.warmup:
        return spec.learning_rate * (update + 1) / spec.warmup
    progress = (update - spec.warmup) / max(1, last - spec.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * (spec.least_rate + (1 - spec.least_rate) * cosine)


def _refuse_broken(state: TrainState) -> None:
    """JobError on every worker where one holds a weight that is not finite; nothing is saved."""
    held = [*map(local_of, state.parameters.values()), *state.average.values()]
    is_broken = torch.stack([~tensor.isfinite().all() for tensor in held]).any()
    if _sum_over_workers(is_broken.long()).item():
        update = state.progress.updates
        raise JobError(f"update {update}: weights are not finite, so no checkpoint is kept")


def _optimizers(parameters: dict[str, nn.Parameter], spec: TrainSpec) -> list[Optimizer]:
    """AdamW for all; or Muon for the matrices of the blocks, with steps as large as AdamW's."""
    lr, decay = spec.learning_rate, spec.weight_decay
    matrices = {
        name: parameter
        for name, parameter in parameters.items()
        if spec.optimizer == "muon" and parameter.ndim == 2 and ".layers." in name
    }
    others = [parameter for name, parameter in parameters.items() if name not in matrices]
    betas = (spec.beta1, spec.beta2)
    optimizers: list[Optimizer] = [AdamW(others, lr=lr, betas=betas, weight_decay=decay)]
    if matrices:
        optimizers.append(
            Muon(
                matrices.values(),
                lr=lr,
                weight_decay=decay,
                momentum=spec.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


def _update(
    state: TrainState, batch: Batch, spec: TrainSpec, mask_id: int, last: int, sums: Sums
) -> Tensor:
    """One update; returns the norm of the gradient before it was clipped."""
    device = next(iter(state.average.values()), next(iter(state.parameters.values()))).device
    counts = torch.tensor([int(batch.is_masked.sum()), len(batch.token_ids)], device=device)
    num_masked, num_tokens = _sum_over_workers(counts).tolist()
    parts = split(batch, spec.accumulate)
    for index, part in enumerate(parts):
        with _gathering(state, is_last=index == len(parts) - 1):
            losses: Losses = state.network(collate(part, mask_id, device))
            # Both wrappers average the workers' gradients, and the batch asks for their sum.
            (losses.weighted * (_num_workers() / num_masked)).backward()
        sums.loss = sums.loss + losses.weighted.detach() / num_masked
        sums.entropy_V = sums.entropy_V + losses.entropy_V
        sums.tokens_V = sums.tokens_V + losses.tokens_V
    norm = _step(state, spec, last)
    state.progress.updates += 1
    state.progress.tokens += num_tokens
    sums.updates += 1
    sums.tokens += num_tokens
    return norm


def _step(state: TrainState, spec: TrainSpec, last: int) -> Tensor:
    update = state.progress.updates
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), spec.clip)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate(update, spec, last)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if spec.ema is not None:
        decay = min(spec.ema, (1 + update) / (10 + update))
        now = [local_of(parameter) for parameter in state.parameters.values()]
        torch._foreach_lerp_(list(state.average.values()), now, 1 - decay)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _line(
    state: TrainState, sums: Sums, norm: Tensor, spec: TrainSpec, names: tuple[str, ...], last: int
) -> Line:
    """Means since the last line, over all workers."""
    assert isinstance(sums.loss, Tensor)
    assert isinstance(sums.entropy_V, Tensor)
    assert isinstance(sums.tokens_V, Tensor)
    packed = torch.cat([sums.loss[None], sums.entropy_V, sums.tokens_V.float()]).double()
    loss, *rest = _sum_over_workers(packed).tolist()
    entropies, counts = rest[: len(names)], rest[len(names) :]
    update = state.progress.updates
    if not math.isfinite(loss) or not math.isfinite(norm.item()):
        raise JobError(f"update {update}: loss {loss} and gradient norm {norm.item()}: stopped")
    seconds = time.monotonic() - sums.since
    return {
        "update": update,
        "loss": loss / sums.updates,
        "cross_entropy": {
            name: entropy / count
            for name, entropy, count in zip(names, entropies, counts, strict=True)
            if count
        },
        "learning_rate": rate(update - 1, spec, last),
        "grad_norm": norm.item(),
        "tokens": state.progress.tokens,
        "tokens_per_s": round(sums.tokens / seconds, 1),
    }


def _gathering(state: TrainState, *, is_last: bool) -> AbstractContextManager[object]:
    """Gradients travel between workers once an update, with the last micro-batch."""
    if isinstance(state.network, DistributedDataParallel) and not is_last:
        no_sync: AbstractContextManager[object] = state.network.no_sync()
        return no_sync
    return nullcontext()


def _num_workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _sum_over_workers(tensor: Tensor) -> Tensor:
    if _num_workers() > 1:
        dist.all_reduce(tensor)
    return tensor
