"""Checkpoints of a run: weights, their average, the optimiser's moments, and where it was.

A folder holds `state.json` and one safetensors file for each worker that holds a part of the
weights: one file under DDP, as many as workers under FSDP (their parts are cut along the first
dimension, in the order of the workers). Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from jobs.common.errors import JobError
from jobs.train.network import local_of

__all__ = ["Progress", "TrainState", "final_weights", "read_progress", "restore", "save"]

MOMENTS: dict[type[Optimizer], tuple[str, ...]] = {
    AdamW: ("exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}
"""What each optimiser remembers of a parameter, in tensors of its shape."""


@dataclass(slots=True)
class Progress:
    """Updates done and tokens seen, in the whole run."""

    updates: int = 0
    tokens: int = 0


@dataclass(slots=True)
class TrainState:
    """What one worker trains; `average` holds its part of each parameter's running average."""

    network: nn.Module
    parameters: dict[str, nn.Parameter]
    average: dict[str, Tensor]
    optimizers: list[Optimizer]
    progress: Progress


def save(state: TrainState, folder: Path, rank: int, num_shards: int) -> None:
    """Write this worker's part; the first worker says how far the run is."""
    tensors = {f"average.{name}": tensor for name, tensor in state.average.items()}
    for name, parameter in state.parameters.items():
        tensors[f"weight.{name}"] = local_of(parameter)
    for name, parameter, optimizer in _owned(state):
        for moment in MOMENTS[type(optimizer)]:
            tensors[f"{moment}.{name}"] = local_of(optimizer.state[parameter][moment])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in tensors.items()}, _file(folder, rank))
    if rank == 0:
        about = asdict(state.progress) | {"num_shards": num_shards}
        (folder / "state.json").write_text(json.dumps(about), encoding="utf-8")


def restore(state: TrainState, folder: Path, rank: int, num_shards: int) -> None:
    """Put the run where `save` left it; a run over other shards is refused.

    Where nothing is sharded all workers read the one file.
    """
    about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if about["num_shards"] != num_shards:
        raise JobError(
            f"{folder}: saved by num_workers={about['num_shards']} under fsdp; go on with as many"
        )
    tensors = load_file(_file(folder, rank if num_shards > 1 else 0))
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            local_of(parameter).copy_(tensors[f"weight.{name}"])
            if name in state.average:
                state.average[name].copy_(tensors[f"average.{name}"])
        for name, parameter, optimizer in _owned(state):
            moments = {m: torch.zeros_like(parameter) for m in MOMENTS[type(optimizer)]}
            for moment, value in moments.items():
                local_of(value).copy_(tensors[f"{moment}.{name}"])
            is_adam = isinstance(optimizer, AdamW)
            steps = {"step": torch.tensor(float(about["updates"]))} if is_adam else {}
            optimizer.state[parameter] = steps | moments
    state.progress = Progress(updates=about["updates"], tokens=about["tokens"])


def read_progress(folder: Path) -> Progress:
    """How far the run was when the checkpoint was written."""
    about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Progress(updates=about["updates"], tokens=about["tokens"])


def final_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every parameter, whole: its average where the run keeps one."""
    about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    files = [_file(folder, rank) for rank in range(about["num_shards"])]
    with safe_open(files[0], framework="pt") as first:
        names = sorted(first.keys())
    kind = "average." if names[0].startswith("average.") else "weight."
    for name in names:
        if name.startswith(kind):
            yield name.removeprefix(kind), torch.cat([_tensor(file, name) for file in files])


def _owned(state: TrainState) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """Every parameter with the optimiser that moves it."""
    names = {parameter: name for name, parameter in state.parameters.items()}
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimizer


def _tensor(file: Path, name: str) -> Tensor:
    with safe_open(file, framework="pt") as opened:
        tensor: Tensor = opened.get_tensor(name)
    return tensor


def _file(folder: Path, rank: int) -> Path:
    return folder / f"shard-{rank:05}.safetensors"
