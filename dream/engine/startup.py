"""Whether an engine could start here: asked before its processes wait for each other."""

from __future__ import annotations

import torch

from dream.engine.config import EngineConfig
from dream.engine.memory import free_memory
from dream.errors import InvalidRequest
from dream.memory import check, check_degree
from dream.model.config import read_config
from dream.model.loader import checkpoint_files, resolve

__all__ = ["check_start"]


def check_start(model: str, config: EngineConfig) -> None:
    """CheckpointError or InvalidRequest where this process could not load its part of a model.

    Processes on CPUs share the memory of their host, so each may take an equal part of it.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidRequest("device", config.device, "cpu, as torch finds no CUDA device here")
    folder = resolve(model)
    shape = read_config(folder).sizes
    check_degree(shape, config.tensor_parallel)
    checkpoint_files(folder)
    free = free_memory(config.device)
    if free is not None and config.device == "cpu":
        free //= config.tensor_parallel
    check(shape, config, free)
