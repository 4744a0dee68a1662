"""What an engine has done so far, in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineStats"]


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """Counters that only grow; the engine's thread alone writes them.

    steps: packed forwards. forward_passes: the same counted once for each request in it.
    token_forwards: canvas tokens computed. canvas_positions: those of them in holes.
    logit_rows: rows whose logits were computed.
    """

    steps: int = 0
    forward_passes: int = 0
    token_forwards: int = 0
    canvas_positions: int = 0
    logit_rows: int = 0
    committed_tokens: int = 0
    requests_finished: int = 0
    requests_aborted: int = 0

    def count_step(
        self, requests: int, tokens: int, in_holes: int, logit_rows: int, committed: int
    ) -> None:
        """One packed forward of so many requests and tokens, and what it committed."""
        self.steps += 1
        self.forward_passes += requests
        self.token_forwards += tokens
        self.canvas_positions += in_holes
        self.logit_rows += logit_rows
        self.committed_tokens += committed
