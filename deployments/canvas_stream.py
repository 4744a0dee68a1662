"""One canvas as its caller sees it: from the engine's steps to updates, and to the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from deployments.assembly import CanvasText, Decode
from deployments.conversion import to_result
from deployments.messages import (
    CanvasMap,
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    FilledHole,
    SetToken,
    StepMap,
    TokenReport,
    Trace,
    View,
)
from dream import Completion, Request, StepEvent, TokenLogprobs
from dream.growth import grown
from dream.template import Hole

__all__ = ["CanvasStream", "Letters"]

SILENCE_S = 1.0
"""After so long an update comes even without news, as what keeps a connection awake."""

MASK = "\u2591"
"""What a mask looks like in a snapshot."""


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


class CanvasStream:
    """Turns the events of one request into updates; `finish` gives the last, with the result.

    view: None where only the result is wanted.
    """

    def __init__(
        self,
        index: int,
        message: CanvasRequest,
        request: Request,
        letters: Letters,
        view: View | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self._index = index
        self._message = message
        self._letters = letters
        self._view = view
        self._clock = clock
        self._began_at = clock()
        self._first_at: float | None = None
        self._told_at = self._began_at
        self._sent = ""
        self._cost = 0
        self._attempt = 0
        self._attempted = request
        self._is_mapped = message.has_trace or (view is not None and view.mode == "steps")
        self._maps: list[CanvasMap] = []
        self._steps: list[tuple[int, StepMap]] = []
        self._ids: dict[int, int] = {}

    @cached_property
    def text(self) -> CanvasText:
        """The finished text; of a canvas that may grow, that of the present attempt."""
        return self.watch()

    def watch(self) -> CanvasText:
        """Another look at the finished text, for who has the events at other times."""
        return CanvasText(
            self.request,
            decode=self._letters.decode,
            end_ids=self._letters.end_ids,
            stop=self._message.stop,
        )

    def begin(self) -> CanvasUpdate | None:
        """The canvas before its first step, for a view of steps."""
        if not self._is_mapped:
            return None
        self._maps.append(self._map())
        return replace(self._at(0), canvas=self._maps[-1]) if self._shows("steps") else None

    def update(self, event: StepEvent) -> CanvasUpdate | None:
        """What is new after a step; None where nobody wants to know."""
        self._first_at = self._first_at or self._clock()
        self._cost += self._attempted.template.num_tokens
        opened = self._follow(event.attempt)
        if self._is_mapped or self._shows("snapshots"):
            self._ids |= dict(zip(event.positions, event.token_ids, strict=True))
        step = self._step_map(event) if self._is_mapped else None
        if self._view is None:
            return None
        text = self._new_text(event)
        snapshot = None
        if self._shows("snapshots") and event.step % self._view.every == 0:
            snapshot = self._snapshot()
        if not self._shows("steps"):
            opened = step = None
        is_news = bool(text or opened or step or snapshot)
        if not is_news and self._clock() - self._told_at < SILENCE_S:
            return None
        self._told_at = self._clock()
        return replace(self._at(event.step), text=text, canvas=opened, set=step, snapshot=snapshot)

    def finish(self, completion: Completion) -> CanvasUpdate:
        """The rest of the text, and the result."""
        now = self._clock()
        tail: tuple[SetToken, ...] = ()
        if self._is_mapped:
            tail = self._tail(completion)
        result = self._result(completion, tail, now)
        text = self._shown([hole.text for hole in result.holes])
        assert text.startswith(self._sent), "finished text never changes"
        return CanvasUpdate(
            index=self._index,
            step=completion.usage.steps,
            steps=completion.usage.steps,
            text=text[len(self._sent) :] if self._view is not None else "",
            tail=tail if self._shows("steps") else (),
            result=result,
            token_forwards=completion.usage.token_forwards,
        )

    def _shows(self, mode: str) -> bool:
        return self._view is not None and self._view.mode == mode

    def _at(self, step: int) -> CanvasUpdate:
        """An update without news."""
        steps = self._attempted.params.steps or self._attempted.template.num_masked
        return CanvasUpdate(index=self._index, step=step, steps=steps, token_forwards=self._cost)

    def _follow(self, attempt: int) -> CanvasMap | None:
        """The larger canvas that this step belongs to, when it is the first of it."""
        if attempt == self._attempt:
            return None
        while self._attempt < attempt:
            larger = grown(self._attempted)
            assert larger is not None, "another attempt has a larger canvas"
            self._attempted = larger
            self._attempt += 1
        self._ids.clear()
        if not self._is_mapped:
            return None
        self._maps.append(self._map())
        return self._maps[-1]

    def _map(self) -> CanvasMap:
        template, params = self._attempted.template, self._attempted.params
        fixed: list[tuple[int, str]] = []
        position = 0
        for segment in template.segments:
            if isinstance(segment, Hole):
                position += segment.num_tokens
                continue
            for token_id in segment.token_ids:
                fixed.append((position, self._letters.token(position, token_id).text))
                position += 1
        return CanvasMap(
            length=template.num_tokens,
            fixed=tuple(fixed),
            steps=params.steps or template.num_masked,
            attempt=self._attempt,
        )

    def _step_map(self, event: StepEvent) -> StepMap:
        has_confidence = self._view is None or self._view.has_confidence
        committed = zip(event.positions, event.token_ids, event.confidences, strict=True)
        tokens = tuple(
            self._letters.token(place, token, sure if has_confidence else None)
            for place, token, sure in committed
        )
        step = StepMap(step=event.step, set=tokens)
        if self._message.has_trace:
            self._steps.append((self._attempt, step))
        return step

    def _new_text(self, event: StepEvent) -> str:
        """What is finished now and was not; nothing while another attempt may follow."""
        if self.request.params.grow_to is not None:
            return ""
        self.text.feed(event)
        text = self._finished()
        new = text[len(self._sent) :]
        self._sent = text
        return new

    def _finished(self) -> str:
        """The shown text from its beginning to the first place that may still change."""
        holes = iter(self.text.holes)
        parts: list[str] = []
        for piece in self._pieces():
            if isinstance(piece, str):
                parts.append(piece)
                continue
            hole = next(holes)
            parts.append(hole.settled)
            if not hole.is_over:
                break
        return "".join(parts)

    def _pieces(self) -> Sequence[object]:
        template = self._message.template
        return template.pieces if self._message.is_whole else template.holes[:1]

    def _shown(self, filled: Sequence[str]) -> str:
        return self._message.template.join(filled) if self._message.is_whole else filled[0]

    def _snapshot(self) -> str:
        """The shown text with a mark for each mask; a hole ends at its first end token."""
        template = self._attempted.template
        texts = []
        for hole in template.holes:
            ids = [self._ids.get(at, -1) for at in range(hole.start, hole.end)]
            ends = [n for n, token in enumerate(ids) if token in self._letters.end_ids]
            shown = ids[: ends[0]] if ends and -1 not in ids[: ends[0]] else ids
            texts.append(self._masked_text(shown))
        return self._shown(texts)

    def _masked_text(self, ids: Sequence[int]) -> str:
        array = np.array(ids, np.int64)
        cuts = np.flatnonzero(np.diff(array < 0)) + 1
        runs = np.split(array, cuts) if len(array) else []
        return "".join(
            MASK * len(run) if run[0] < 0 else self._letters.decode(run.tolist()) for run in runs
        )

    def _tail(self, completion: Completion) -> tuple[SetToken, ...]:
        """Tokens that no step committed: what an early exit filled."""
        holes = self._attempted.template.holes
        given = completion.token_ids
        missing = [at for h in holes for at in range(h.start, h.end) if at not in self._ids]
        filled = [at for at in missing if given[at] in self._letters.end_ids]
        return tuple(self._letters.token(at, given[at]) for at in filled)

    def _result(
        self, completion: Completion, tail: tuple[SetToken, ...], now: float
    ) -> CanvasResult:
        first_at = self._first_at or now
        trace = None
        if self._message.has_trace:
            trace = Trace(canvases=tuple(self._maps), steps=tuple(self._steps), tail=tail)
        plain = to_result(self._message, completion, self._letters.decode)
        return replace(
            plain,
            holes=self._with_logprobs(plain.holes, completion),
            queue_s=first_at - self._began_at,
            denoise_s=now - first_at,
            trace=trace,
        )

    def _with_logprobs(
        self, holes: Sequence[FilledHole], completion: Completion
    ) -> tuple[FilledHole, ...]:
        """The holes with the log-probabilities of the tokens that their text shows."""
        known = completion.logprobs
        if known is None:
            return tuple(holes)
        found = []
        for hole, span in zip(holes, completion.spans, strict=True):
            room, reports = len(hole.text.encode()), []
            for place, token_id in enumerate(span.token_ids, start=span.start):
                data = self._letters.token_bytes(token_id)
                if room <= 0 or place not in known:
                    break
                room -= len(data)
                reports.append(self._report(data, known[place]))
            found.append(replace(hole, logprobs=tuple(reports)))
        return tuple(found)

    def _report(self, data: bytes, one: TokenLogprobs) -> TokenReport:
        top = tuple((self._letters.token_bytes(token), value) for token, value in one.top)
        return TokenReport(data, one.logprob, top)
