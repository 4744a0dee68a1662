"""From a call to a CUDA graph that repeats it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Capture", "CaptureCuda", "Replay"]

Replay = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Replay], Replay]
"""From a call to something that repeats it on what is then in the same tensors."""


class CaptureCuda:
    """CUDA graphs that share their memory: a result is read before the next one runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Replay) -> Replay:
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

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return result

        return replay
