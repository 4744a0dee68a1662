"""The current device of a thread, where streams, events, graphs and kernels begin."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["on_device"]


def on_device(device: torch.device) -> AbstractContextManager[None]:
    """Make a CUDA device the current one of this thread: each thread begins with the first."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
