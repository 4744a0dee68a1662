"""Whether an engine could start here: asked before its processes wait for each other."""

from __future__ import annotations

from pathlib import Path

import torch

from dream.engine.config import EngineConfig
from dream.engine.memory import free_memory
from dream.errors import InvalidRequest
from dream.memory import check, check_degree
from dream.model.config import read_config
from dream.model.loader import checkpoint_files, resolve

__all__ = ["check_start"]


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
