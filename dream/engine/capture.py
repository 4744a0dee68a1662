"""From a call to a CUDA graph that repeats it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Capture", "CaptureCuda", "Replay"]

T = TypeVar("T")

Replay = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Replay], Replay]
"""From a call to something that repeats it on what is then in the same tensors."""


class CaptureCuda:
    """CUDA graphs that share their memory: a result is read before the next one runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Callable[[], T]) -> Callable[[], T]:
        """A graph of the call, after the warm-up on another stream that capture asks for.

        Other threads may use CUDA meanwhile, such as one that loads weights.
        """
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = call()

        def replay() -> T:
            graph.replay()
            return result

        return replay
