"""Whether an engine could start here: asked before its processes wait for each other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dream.engine.config import EngineConfig
from dream.engine.memory import free_memory
from dream.errors import InvalidRequest
from dream.memory import check, check_degree
from dream.model.config import read_config
from dream.model.loader import checkpoint_files, resolve

__all__ = ["check_start", "sampled_sha256"]

SAMPLES, SAMPLE_BYTES = 16, 2**16
"""Of each weight file, besides its size; two checkpoints of one model differ all over."""


def check_start(model: str | Path, config: EngineConfig, num_sharing: int = 1) -> Path:
    """The folder of a model that this process could load, as its settings say.

    CheckpointError or InvalidRequest says why it could not. num_sharing: processes on this host
    that are about to take as much of its memory; each GPU belongs to one process.
    """
    if torch.device(config.device).type == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("device", config.device, "cpu, as torch finds no CUDA device here")
    folder = resolve(model)
    shape = read_config(folder).sizes
    check_degree(shape, config.tensor_parallel)
    free = free_memory(config.device)
    if free is not None and config.device == "cpu":
        free //= num_sharing
    check(shape, config, free)
    checkpoint_files(folder)
    return folder


def sampled_sha256(folder: Path) -> str:
    """A digest that tells two checkpoints apart without reading them whole."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in checkpoint_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(size * number // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
