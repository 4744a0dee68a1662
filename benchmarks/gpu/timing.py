"""Seconds on a device, and calls that the host need not launch one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.stage_clock import reached
from dream.engine.capture import CaptureCuda

__all__ = ["captured", "each_s", "is_cuda", "sustained_s"]

Call = Callable[[], object]


def is_cuda(device: str) -> bool:
    """Whether the device is one of CUDA's."""
    return torch.device(device).type == "cuda"


def each_s(device: str, call: Call, repeats: int) -> float:
    """Seconds of a call among many in a row, after one that is not counted."""
    call()
    start = reached(device)
    for _ in range(repeats):
        call()
    return start.until(reached(device)) / repeats


def sustained_s(device: str, call: Call, seconds: float, at_a_time: int = 20) -> float:
    """Seconds of a call when it is repeated for at least so long, as heat and power allow."""
    call()
    start, count, total = reached(device), 0, 0.0
    while total < seconds:
        for _ in range(at_a_time):
            call()
        count += at_a_time
        total = start.until(reached(device))
    return total / count


def captured(device: str, call: Call) -> Call:
    """The call as a CUDA graph, so that launches cost nothing; on a CPU the call itself."""
    if not is_cuda(device):
        return call
    return CaptureCuda()(call)
