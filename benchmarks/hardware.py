"""What a benchmark ran on, for its record."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import torch
import transformers

from jobs.evaluate.environment import processor

__all__ = ["describe", "device_name"]


def describe(command: str, device: str = "cpu") -> dict[str, str]:
    """Date, hardware, versions and the command that repeats it."""
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "command": command,
    }
    if torch.device(device).type == "cuda":
        about |= {"device": device_name(device), "devices": str(torch.cuda.device_count())}
    return about


def device_name(device: str) -> str:
    """Name of the accelerator, or the machine type of the host."""
    is_cuda = torch.device(device).type == "cuda"
    return str(torch.cuda.get_device_name(device)) if is_cuda else platform.machine()
