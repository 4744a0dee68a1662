"""From a commit on the device to one on the host: one copy, which nothing but its reader waits for.

Letters: N candidate rows, C committed rows, R requests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.remasking import Commit

__all__ = ["HostCommit", "Readback"]


class HostCommit(NamedTuple):
    """A `remasking.Commit` on the host; open_N: candidates whose filters need another look."""

    rows_C: NDArray[np.int64]
    token_ids_C: NDArray[np.int64]
    probs_C: NDArray[np.float32]
    counts_R: NDArray[np.int64] | None
    forced_R: NDArray[np.int64] | None
    open_N: NDArray[np.int64]


class Readback:
    """A commit on its way to the host; the copy has started, behind what made the commit."""

    def __init__(self, commit: Commit, is_open_N: Tensor) -> None:
        probs = commit.probs_C.float().view(torch.int32)
        counts = [part for part in commit[3:] if part is not None]
        parts = [commit.rows_C, commit.token_ids_C, probs, is_open_N, *counts]
        joined = torch.cat([part.long() for part in parts])
        self._ends = np.cumsum([len(part) for part in parts])[:-1]
        self._arrival: torch.cuda.Event | None = None
        if joined.is_cuda:
            host = torch.empty(len(joined), dtype=joined.dtype, pin_memory=True)
            self._host = host.copy_(joined, non_blocking=True)
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record()
        else:
            self._host = joined

    def wait(self) -> HostCommit:
        """The commit: the one place of a step that waits for the device."""
        if self._arrival is not None:
            self._arrival.synchronize()
        parts = np.split(self._host.numpy(), self._ends)
        rows, tokens, bits, is_open, *counts = parts
        counts_R, forced_R = counts or (None, None)
        probs_C = bits.astype(np.int32).view(np.float32)
        return HostCommit(rows, tokens, probs_C, counts_R, forced_R, is_open.nonzero()[0])
