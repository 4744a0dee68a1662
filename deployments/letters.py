"""What tokens stand for: text of several, bytes of one, and how probable those of a text were."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from deployments.assembly import Decode
from deployments.messages import FilledHole, SetToken, TokenReport
from dream import Completion, TokenLogprobs

__all__ = ["Letters", "with_logprobs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """What tokens stand for: text of several, bytes of one; and the tokens that end a hole."""

    decode: Decode
    token_bytes: Callable[[int], bytes]
    end_ids: Collection[int]

    def token(self, position: int, token_id: int, confidence: float | None = None) -> SetToken:
        """A token with its text, and with its bytes where these are no whole characters."""
        data = self.token_bytes(token_id)
        text = data.decode("utf-8", "replace")
        is_whole = text.encode("utf-8") == data
        return SetToken(position, token_id, text, confidence, None if is_whole else tuple(data))


def with_logprobs(
    holes: Sequence[FilledHole], completion: Completion, letters: Letters
) -> tuple[FilledHole, ...]:
    """The holes with the log-probabilities of the tokens that their text shows."""
    known = completion.logprobs
    if known is None:
        return tuple(holes)
    found = []
    for hole, span in zip(holes, completion.spans, strict=True):
        shown = span.token_ids[: _num_shown(span.token_ids, hole.text, letters.decode)]
        reports = [
            _report(token_id, known[place], letters)
            for place, token_id in enumerate(shown, start=span.start)
            if place in known
        ]
        found.append(replace(hole, logprobs=tuple(reports)))
    return tuple(found)


def _num_shown(token_ids: Sequence[int], text: str, decode: Decode) -> int:
    """How many of the tokens it takes to make the text, which may be cut."""
    if text == decode(token_ids):
        return len(token_ids)
    counts = range(len(token_ids) + 1)
    return bisect_left(counts, len(text), key=lambda n: len(decode(token_ids[:n])))


def _report(token_id: int, one: TokenLogprobs, letters: Letters) -> TokenReport:
    top = tuple((letters.token_bytes(token), value) for token, value in one.top)
    return TokenReport(letters.token_bytes(token_id), one.logprob, top)
