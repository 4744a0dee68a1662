"""From committed tokens to finished text: what no later step can change, in reading order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from dream import Request, StepEvent
from dream.growth import grown
from dream.template import Template

__all__ = ["CanvasText", "Decode", "HoleText", "cut_at_stop", "find_stop"]

Decode = Callable[[Sequence[int]], str]
"""From token ids to text; a character that is not whole yet becomes U+FFFD."""

INCOMPLETE = "\ufffd"


def find_stop(text: str, stop: Sequence[str], begin: int = 0) -> int | None:
    """Where the stop string begins that is complete first, from `begin` on; the longer of two.

    What is complete first does not depend on how many characters arrive at a time.
    """
    found = [(at + len(mark), at) for mark in stop if (at := text.find(mark, begin)) >= 0]
    return min(found)[1] if found else None


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before its first stop string."""
    return text[: find_stop(text, stop)]


class HoleText:
    """The finished text of one hole; `is_over` once no more can come, `is_cut` at a stop string."""

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self.text = ""
        self.is_over = False
        self.is_cut = False
        self._decode = decode
        self._stop = stop
        self._longest = max(map(len, stop), default=1)
        self._pending: list[int] = []

    def extend(self, token_ids: Sequence[int], *, is_last: bool) -> None:
        """Take the next tokens from the left; at the last ones a broken character counts too."""
        self._pending += token_ids
        chunk = self._decode(self._pending) if self._pending else ""
        if is_last or not chunk.endswith(INCOMPLETE):
            self._pending = []
            begin = max(0, len(self.text) - self._longest + 1)
            self.text += chunk
            if (at := find_stop(self.text, self._stop, begin)) is not None:
                self.text = self.text[:at]
                is_last = self.is_cut = True
        self.is_over = is_last

    @property
    def settled(self) -> str:
        """The text without an end that may turn out to begin a stop string."""
        if self.is_over or not self._stop:
            return self.text
        for size in range(min(self._longest - 1, len(self.text)), 0, -1):
            if any(mark.startswith(self.text[-size:]) for mark in self._stop):
                return self.text[:-size]
        return self.text


class CanvasText:
    """The finished text of every hole of a canvas, as its steps come in."""

    def __init__(
        self, request: Request, *, decode: Decode, end_ids: Collection[int], stop: Sequence[str]
    ) -> None:
        self._request = request
        self._decode = decode
        self._end_ids = end_ids
        self._stop = stop
        self._attempt = 0
        self._begin(request.template)

    @property
    def is_over(self) -> bool:
        """Whether every hole has ended: at its last token, an end token or a stop string."""
        return all(hole.is_over for hole in self.holes)

    def is_stopped_by(self, event: StepEvent) -> bool:
        """Take what a step committed; whether all holes have ended, and one at a stop string."""
        self.feed(event)
        return self.is_over and any(hole.is_cut for hole in self.holes)

    def feed(self, event: StepEvent) -> None:
        """Take what a step committed."""
        while self._attempt < event.attempt:
            self._grow()
        self._ids[list(event.positions)] = event.token_ids
        for place, (hole, (_, end)) in enumerate(zip(self.holes, self._ranges, strict=True)):
            if not hole.is_over:
                self._advance(place, hole, end)

    def _begin(self, template: Template) -> None:
        self.holes = [HoleText(self._decode, self._stop) for _ in template.holes]
        self._ranges = [(hole.start, hole.end) for hole in template.holes]
        self._next = [start for start, _ in self._ranges]
        self._ids = np.full(template.num_tokens, -1, np.int64)

    def _grow(self) -> None:
        larger = grown(self._request)
        assert larger is not None, "another attempt has a larger canvas"
        self._request = larger
        self._attempt += 1
        self._begin(larger.template)

    def _advance(self, place: int, hole: HoleText, end: int) -> None:
        begin = at = self._next[place]
        while at < end and self._ids[at] >= 0 and self._ids[at] not in self._end_ids:
            at += 1
        is_last = at == end or int(self._ids[at]) in self._end_ids
        self._next[place] = at
        if at > begin or is_last:
            hole.extend(self._ids[begin:at].tolist(), is_last=is_last)
