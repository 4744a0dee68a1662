"""One canvas as its caller sees it: from the engine's steps to updates, and to the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from deployments.assembly import CanvasText
from deployments.conversion import to_result
from deployments.letters import Letters, with_logprobs
from deployments.messages import (
    CanvasMap,
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    SetToken,
    StepMap,
    Trace,
    View,
)
from dream import Completion, Request, StepEvent
from dream.growth import grown
from dream.template import Hole

__all__ = ["EVENTS_S", "CanvasStream"]

EVENTS_S = 0.5
"""After so long an update comes even without news: another replica need not repeat its steps."""

MASK = "\u2591"
"""What a mask looks like in a snapshot."""


class CanvasStream:
    """Turns the events of one request into updates; `finish` gives the last, with the result.

    view: None where only steps and the result are wanted.
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
        self._next_snapshot = 0
        self._attempt = 0
        self._attempted = request
        self._is_mapped = message.has_trace or (view is not None and view.mode == "steps")
        self._maps: list[CanvasMap] = []
        self._steps: list[tuple[int, StepMap]] = []
        self._ids: dict[int, int] = {}
        self._untold: list[StepEvent] = []
        self._num_steps = _steps_of(request)

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

    def start(self) -> CanvasUpdate | None:
        """The canvas before its first step, for a view of steps.

        Where another replica has begun, its steps are taken as told, and the rest follows.
        """
        if self._is_mapped:
            self._maps.append(self._map())
        if self._message.so_far is not None:
            for event in self._message.so_far:
                self.update(event)
            self._untold.clear()
        elif self._shows("steps"):
            return replace(self._at(0), canvas=self._maps[-1])
        return None

    def update(self, event: StepEvent) -> CanvasUpdate | None:
        """What is new after a step; None where it can wait."""
        self._untold.append(event)
        self._first_at = self._first_at or self._clock()
        self._num_steps = event.steps
        opened = self._follow(event.attempt)
        self._cost += self._attempted.template.num_tokens
        if self._is_mapped or self._shows("snapshots"):
            self._ids |= dict(zip(event.positions, event.token_ids, strict=True))
        step = self._step_map(event) if self._is_mapped else None
        text = "" if self._view is None else self._new_text(event)
        snapshot = None
        if (
            self._view is not None
            and self._shows("snapshots")
            and event.step >= self._next_snapshot
        ):
            snapshot = self._snapshot()
            self._next_snapshot = (event.step // self._view.every + 1) * self._view.every
        if not self._shows("steps"):
            opened = step = None
        is_news = bool(text or opened or step or snapshot)
        if not is_news and self._clock() - self._told_at < EVENTS_S:
            return None
        self._told_at = self._clock()
        events, self._untold = tuple(self._untold), []
        update = replace(self._at(event.step), text=text, canvas=opened, set=step)
        return replace(update, snapshot=snapshot, events=events)

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
            step=self._num_steps,
            steps=self._num_steps,
            text=text[len(self._sent) :] if self._view is not None else "",
            tail=tail if self._shows("steps") else (),
            result=result,
            token_forwards=completion.usage.token_forwards,
        )

    def _shows(self, mode: str) -> bool:
        return self._view is not None and self._view.mode == mode

    def _at(self, step: int) -> CanvasUpdate:
        """An update without news."""
        return CanvasUpdate(
            index=self._index, step=step, steps=self._num_steps, token_forwards=self._cost
        )

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
        self._next_snapshot = 0
        if not self._is_mapped:
            return None
        self._maps.append(self._map())
        return self._maps[-1]

    def _map(self) -> CanvasMap:
        template = self._attempted.template
        fixed: list[SetToken] = []
        position = 0
        for segment in template.segments:
            if isinstance(segment, Hole):
                position += segment.num_tokens
                continue
            for token_id in segment.token_ids:
                fixed.append(self._letters.token(position, token_id))
                position += 1
        return CanvasMap(
            length=template.num_tokens,
            fixed=tuple(fixed),
            steps=_steps_of(self._attempted),
            attempt=self._attempt,
        )

    def _step_map(self, event: StepEvent) -> StepMap:
        has_confidence = self._message.has_confidence
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
            holes=with_logprobs(plain.holes, completion, self._letters),
            queue_s=first_at - self._began_at,
            denoise_s=now - first_at,
            is_in_time=None if self.request.deadline is None else now <= self.request.deadline,
            trace=trace,
        )


def _steps_of(request: Request) -> int:
    """Length of the timetable at its beginning."""
    if request.timetable:
        return request.timetable[0][1]
    return request.params.steps or request.template.num_masked
