"""A smallest part of the engine for those whom others are put before."""

from __future__ import annotations

__all__ = ["MinimumShare"]


class MinimumShare:
    """Keeps one part in `parts` of the token-forwards for those whom others are put before.

    The others may go first for `parts - 1` full steps; from then on it is due, until what it got
    makes up for what they got. What it got before counts for no more than that.
    """

    def __init__(self, parts: int, step_tokens: int) -> None:
        self._others = parts - 1
        self._step_tokens = step_tokens
        self._left = self._others * step_tokens

    @property
    def due_tokens(self) -> int:
        """Token-forwards that have to come before any other; 0 where the others may go first."""
        return -self._left // self._others + 1 if self._left <= 0 else 0

    def pass_over(self, num_tokens: int) -> None:
        """Others were put before, for so many token-forwards."""
        self._left = max(self._left - num_tokens, -self._step_tokens)

    def serve(self, num_tokens: int) -> None:
        """Those whose share this is got so many token-forwards."""
        most = self._others * self._step_tokens
        self._left = min(self._left + self._others * num_tokens, most)

    def reset(self) -> None:
        """Nobody waits for it any more."""
        self._left = self._others * self._step_tokens
