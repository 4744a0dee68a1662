"""What a benchmark ran on, for its record."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import torch
import transformers

from jobs.evaluate.environment import processor

__all__ = ["describe"]


def describe(command: str) -> dict[str, str]:
    """Date, hardware, versions and the command that repeats it."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "command": command,
    }
