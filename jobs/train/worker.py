"""What Ray Train runs on every worker: build or restore, then the loop, telling and saving."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import ray.train
import torch
from ray.train.torch import get_device

from dream.model.config import read_config
from jobs.common.fingerprint import Json
from jobs.train.checkpoint import TrainState, restore, save
from jobs.train.config import TrainSpec
from jobs.train.data import MixSource, RowSource, Source, feed
from jobs.train.loop import new_state, run_updates
from jobs.train.metrics import Line, Metrics
from jobs.train.paths import BASE, STORE, WORK
from jobs.train.store import TokenStore, eos_of

__all__ = ["source_of", "train_worker"]


def train_worker(config: dict[str, dict[str, Json] | int]) -> None:
    """Train to the last update, from the newest checkpoint of the run where there is one."""
    spec = TrainSpec.model_validate(config["spec"])
    last = config["updates"]
    assert isinstance(last, int)
    torch.set_num_threads(spec.threads)
    work = Path(spec.output) / WORK
    rank, num_workers = _place()
    num_shards = num_workers if spec.parallel == "fsdp" else 1
    source, model = source_of(spec, work), read_config(work / BASE)
    state = new_state(spec, model, len(source.variant_names), _device())
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            restore(state, Path(folder), rank, num_shards)
    with ExitStack() as stack:
        metrics: Metrics | None = None
        if rank == 0:
            metrics = stack.enter_context(Metrics(Path(spec.output), state.progress.updates))
        run_updates(
            state,
            feed(source, state.progress.updates, last, rank, num_workers),
            spec,
            mask_id=model.mask_token_id,
            variant_names=source.variant_names,
            last=last,
            tell=partial(_tell, metrics),
            save=partial(_save, state, work, rank, num_shards),
        )


def source_of(spec: TrainSpec, work: Path) -> Source:
    """Where the batches of the run come from."""
    if spec.mix is not None:
        return MixSource(spec, eos_of(work / BASE))
    return RowSource(spec, TokenStore(work / STORE))


def _place() -> tuple[int, int]:
    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()


def _device() -> torch.device:
    device = get_device()
    assert isinstance(device, torch.device)
    return device


def _tell(metrics: Metrics | None, line: Line) -> None:
    if metrics is not None:
        metrics.write(line)


def _save(state: TrainState, work: Path, rank: int, num_shards: int) -> None:
    """Hand the checkpoint to Ray Train, which keeps the newest two; every worker waits for it."""
    updates = state.progress.updates
    with tempfile.TemporaryDirectory(dir=work, prefix="checkpoint-") as folder:
        checkpoint: ray.train.Checkpoint | None = None
        if rank < num_shards:
            save(state, Path(folder), rank, num_shards)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(
            {"update": updates}, checkpoint=checkpoint, checkpoint_dir_name=f"update-{updates:08}"
        )
