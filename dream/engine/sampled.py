"""What sampling gives for every candidate of a step, put together from parts.

Letters: N candidate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dream.engine.logprobs import RowLogprobs
from dream.sampling import Certainty, Drawn

__all__ = ["Sampled", "joined", "unknown"]


class Sampled(NamedTuple):
    """A token for every candidate, and how sure its row is.

    logprobs: None where nobody asks; rows of those who do not ask are blank.
    """

    drawn: Drawn
    sure: Certainty
    logprobs: RowLogprobs | None = None

    def copy(self) -> Sampled:
        """The same, of which `put` may overwrite tokens and log-probabilities."""
        drawn = Drawn(*(values.clone() for values in self.drawn))
        if self.logprobs is None:
            return self._replace(drawn=drawn)
        logprobs = RowLogprobs(*(values.clone() for values in self.logprobs))
        return self._replace(drawn=drawn, logprobs=logprobs)

    def put(self, rows: Tensor, drawn: Drawn, logprobs: RowLogprobs | None) -> None:
        """Overwrite these rows; without log-probabilities theirs stay."""
        pairs = [*zip(self.drawn, drawn, strict=True)]
        if self.logprobs is not None and logprobs is not None:
            pairs += zip(self.logprobs, logprobs, strict=True)
        for kept, values in pairs:
            kept.index_copy_(0, rows, values)


def joined(parts: Sequence[Sampled]) -> Sampled:
    """All rows of these parts."""
    return Sampled(
        Drawn(*_catenated([part.drawn for part in parts])),
        Certainty(*_catenated([part.sure for part in parts])),
        _joined_logprobs(parts),
    )


def unknown(logits_NV: Tensor) -> Certainty:
    """For rows whose requests have no commit rule."""
    zeros_N = logits_NV.new_zeros(len(logits_NV))
    return Certainty(zeros_N, zeros_N)


def _joined_logprobs(parts: Sequence[Sampled]) -> RowLogprobs | None:
    if all(part.logprobs is None for part in parts):
        return None
    return RowLogprobs(
        *_catenated([part.logprobs or RowLogprobs.blank(part.drawn.probs_N) for part in parts])
    )


def _catenated(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(values) for values in zip(*parts, strict=True)]
