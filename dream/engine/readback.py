"""From a commit on the device to one on the host: one copy, which nothing but its reader waits for.

Letters: N candidate rows, C committed rows, R requests, K alternatives of a token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.engine.logprobs import HostLogprobs, RowLogprobs
from dream.remasking import Commit
from dream.request import MAX_LOGPROBS

__all__ = ["HostCommit", "Readback"]


class HostCommit(NamedTuple):
    """A `remasking.Commit` on the host; open_N: candidates whose filters need another look.

    logprobs: None where no request of the step asks for them.
    """

    rows_C: NDArray[np.int64]
    token_ids_C: NDArray[np.int64]
    probs_C: NDArray[np.float32]
    counts_R: NDArray[np.int64] | None
    forced_R: NDArray[np.int64] | None
    open_N: NDArray[np.int64]
    logprobs: HostLogprobs | None


class Readback:
    """A commit on its way to the host; the copy has started, behind what made the commit."""

    def __init__(
        self, commit: Commit, is_open_N: Tensor, logprobs_C: RowLogprobs | None = None
    ) -> None:
        self._has_logprobs = logprobs_C is not None
        told: list[Tensor] = []
        if logprobs_C is not None:
            chosen_C, ids_CK, top_CK = logprobs_C
            told = [_bits(chosen_C), ids_CK.flatten(), _bits(top_CK.flatten())]
        counts = [part for part in commit[3:] if part is not None]
        probs = _bits(commit.probs_C)
        parts = [commit.rows_C, commit.token_ids_C, probs, is_open_N, *told, *counts]
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
        logprobs = None
        if self._has_logprobs:
            chosen, ids, top, *counts = counts
            shape = len(rows), MAX_LOGPROBS
            top_CK = _floats(top).reshape(shape)
            logprobs = HostLogprobs(_floats(chosen), ids.reshape(shape), top_CK)
        counts_R, forced_R = counts or (None, None)
        open_N = is_open.nonzero()[0]
        return HostCommit(rows, tokens, _floats(bits), counts_R, forced_R, open_N, logprobs)


def _bits(values: Tensor) -> Tensor:
    return values.float().view(torch.int32)


def _floats(bits: NDArray[np.int64]) -> NDArray[np.float32]:
    return bits.astype(np.int32).view(np.float32)
