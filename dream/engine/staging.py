"""Host arrays on their way to the device: one pinned buffer and one copy a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Staging", "Upload"]

Upload = Callable[[NDArray[np.generic]], Tensor]
"""From a host array to a tensor on the device, which is filled before the forward."""

PAGE = 2**20
"""Bytes of a buffer; a larger array gets one of its own."""

ALIGNMENT = 16


class Staging:
    """Collects one step's arrays; the tensors it gives are filled once `flush` has run.

    torch's pinned allocator keeps a buffer from reuse until its copy is over, so two steps never
    share one. On a CPU arrays are taken as they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_direct = device.type == "cpu"
        self._pages: list[tuple[Tensor, Tensor]] = []
        self._used = PAGE

    def put(self, array: NDArray[np.generic]) -> Tensor:
        """The array as a tensor on the device, to be read after `flush`."""
        if self._is_direct:
            return torch.from_numpy(np.ascontiguousarray(array))
        host, there = self._room(array.nbytes)
        host.copy_(torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        return there.view(dtype).view(array.shape)

    def flush(self) -> None:
        """Start the copies; nothing waits for them but the device."""
        for host, there in self._pages:
            there.copy_(host, non_blocking=True)
        self._pages = []
        self._used = PAGE

    def _room(self, size: int) -> tuple[Tensor, Tensor]:
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        if not self._pages or start + size > PAGE:
            self._add_page(max(PAGE, size))
            start = 0
        self._used = start + size
        host, there = self._pages[-1]
        return host[start : start + size], there[start : start + size]

    def _add_page(self, size: int) -> None:
        is_pinned = self._device.type == "cuda"
        host = torch.empty(size, dtype=torch.uint8, pin_memory=is_pinned)
        self._pages.append((host, torch.empty(size, dtype=torch.uint8, device=self._device)))
