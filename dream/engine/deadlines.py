"""How many steps a request gets when time is short: as many as it wants, if there is time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from dream.engine.pace import Pace
from dream.engine.pass_ratios import PassRatios
from dream.errors import DeadlineInfeasible
from dream.request import Completion, Request, StepEvent

__all__ = ["Deadlines", "Work", "finish_times"]

HEADROOM = 1.2
"""A step is expected to take so many times what it has taken, as others may still come."""

RESERVE_S = 0.02
"""What is left for the way of the answer."""

SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.1, 0.0)
"""What requests may get of the steps between those that they need and those that they want."""

PROMISED_S = 10.0
"""How long a request counts that was given its steps and has not come to the engine."""

LOOK_EVERY_S = 0.05
"""How often the steps of running requests are looked at again."""


class Work(NamedTuple):
    """Passes that a canvas of so many tokens still needs."""

    tokens: int
    passes: int


def finish_times(
    work: Sequence[Work], step_seconds: Callable[[int], float], max_tokens: int, others: int
) -> list[float]:
    """When each of them is done, in seconds from now, if they run in this order.

    The first that fit in `max_tokens` share each step; the next ones follow when one is done.
    others: tokens of other work that fill up what is left of a step.
    """
    left = [one.passes for one in work]
    times = [0.0] * len(work)
    coming = deque(n for n, passes in enumerate(left) if passes > 0)
    running: list[int] = []
    now, tokens = 0.0, 0
    while coming or running:
        while coming and (not running or tokens + work[coming[0]].tokens <= max_tokens):
            running.append(coming.popleft())
            tokens += work[running[-1]].tokens
        passes = min(left[n] for n in running)
        now += passes * step_seconds(min(max(tokens, max_tokens), tokens + others))
        for n in running:
            left[n] -= passes
            times[n] = now
        tokens -= sum(work[n].tokens for n in running if not left[n])
        running = [n for n in running if left[n]]
    return times


class _Look(NamedTuple):
    """The time of a look at all requests, and canvas tokens without a deadline."""

    now: float
    others: int


@dataclass(slots=True)
class _Tracked:
    """A request with a deadline: its steps now, those that it has run, and its masks left."""

    request: Request
    steps: int
    done: int = 0
    num_masked: int = 0

    @classmethod
    def of(cls, request: Request, so_far: Sequence[StepEvent] = ()) -> _Tracked:
        return cls(
            request,
            steps=so_far[-1].steps if so_far else _steps_of(request),
            done=so_far[-1].step + 1 if so_far else 0,
            num_masked=request.template.num_masked - sum(len(e.positions) for e in so_far),
        )

    @property
    def deadline(self) -> float:
        assert self.request.deadline is not None
        return self.request.deadline

    def with_share(self, share: float) -> int:
        """Steps of the timetable if it gets this share of those beyond its fewest."""
        wanted = _wanted(self.request)
        fewest = min(self.request.min_steps, wanted)
        steps = fewest + round(share * (wanted - fewest))
        return min(self.steps, max(steps, self.done + 1))

    def work(self, share: float, ratios: PassRatios) -> Work:
        """What is left to run with this share.

        A pass fills one mask at least. A rule usually ends sooner, but fewer steps than asked for
        are run to the last.
        """
        most = min(self.num_masked, max(0, _wanted(self.request) - self.done))
        passes = min(self.with_share(share) - self.done, ratios.expected(self.request, most))
        return Work(self.request.template.num_tokens, passes)


class Deadlines:
    """Steps of the requests that have a deadline, or are elastic, by the pace of the engine.

    All get the same share of the steps between `min_steps` and what they want: the largest with
    which every deadline holds, the earliest first. Who is late anyway gets `min_steps`, so as to
    end soon. Steps of a running request only become fewer.
    `fit` may be called by any thread, the other methods by the engine's.
    """

    def __init__(
        self, pace: Pace, max_tokens: int, elastic_after_s: float, clock: Callable[[], float]
    ) -> None:
        """elastic_after_s: seconds of queued work from which on elastic requests get fewer."""
        self._pace = pace
        self._max_tokens = max_tokens
        self._elastic_after_s = elastic_after_s
        self._clock = clock
        self._ratios = PassRatios()
        self._lock = threading.Lock()
        self._tracked: dict[str, _Tracked] = {}
        self._promised: dict[str, tuple[float, _Tracked]] = {}
        self._look_at = 0.0

    def fit(
        self, requests: Sequence[Request], backlog: int, others: int, *, may_refuse: bool = True
    ) -> list[Request]:
        """The requests with the steps that there is time for; DeadlineInfeasible if too few are.

        backlog: token-forwards that wait or run. others: canvas tokens without a deadline. What it
        returns counts as running for `PROMISED_S`, until `track` is told that it does.
        """
        new = {one.id: _Tracked.of(one) for one in requests if one.deadline is not None}
        if not new:
            return [self._stretched(one, backlog) for one in requests]
        look, running = _Look(self._clock(), others), self._running()
        together = [*running, *new.values()]
        lost = self._lost(together, look)
        if may_refuse and not lost <= self._lost(running, look):
            raise _infeasible(min(new.values(), key=lambda one: one.deadline), look.now)
        share = self._share(together, lost, look)
        fitted = [
            _shortened(one, new[one.id].with_share(0.0 if one.id in lost else share))
            if one.id in new
            else self._stretched(one, backlog)
            for one in requests
        ]
        with self._lock:
            until = look.now + PROMISED_S
            self._promised |= {one.id: (until, _Tracked.of(one)) for one in fitted if one.id in new}
        return fitted

    def track(self, request: Request, so_far: Sequence[StepEvent]) -> None:
        """Watch over a request from now on."""
        if request.deadline is not None:
            with self._lock:
                self._tracked[request.id] = _Tracked.of(request, so_far)
                self._promised.pop(request.id, None)
            self._look_at = 0.0

    def observe(self, event: StepEvent) -> None:
        """A step was run."""
        if (one := self._tracked.get(event.request_id)) is not None:
            one.done, one.steps = event.step + 1, min(one.steps, event.steps)
            one.num_masked -= len(event.positions)

    def learn(self, request: Request, completion: Completion) -> None:
        """A request has ended, with a deadline or without: see how many passes its rule needs."""
        self._ratios.observe(request, completion)

    def forget(self, request_id: str) -> None:
        """A request is over."""
        with self._lock:
            self._tracked.pop(request_id, None)

    def replans(self, others: int) -> Iterator[tuple[str, int]]:
        """Requests that are to end after fewer steps, so that all are in time."""
        now = self._clock()
        if not self._tracked or now < self._look_at:
            return
        look, running = _Look(now, others), self._running()
        lost = self._lost(running, look)
        share = self._share(running, lost, look)
        self._look_at = self._clock() + max(LOOK_EVERY_S, 10 * (self._clock() - now))
        for one in running:
            steps = one.with_share(0.0 if one.request.id in lost else share)
            if steps < one.steps and one.request.id in self._tracked:
                self._tracked[one.request.id].steps = steps
                yield one.request.id, steps

    def _running(self) -> list[_Tracked]:
        with self._lock:
            now = self._clock()
            self._promised = {name: kept for name, kept in self._promised.items() if kept[0] > now}
            promised = [one for _, one in self._promised.values()]
            return [replace(one) for one in (*self._tracked.values(), *promised)]

    def _share(self, tracked: Sequence[_Tracked], lost: set[str], look: _Look) -> float:
        """The largest share with which only those are late that are lost anyway."""
        fitting = (one for one in SHARES if self._late(tracked, one, lost, look) <= lost)
        return next(fitting, 0.0)  # the pace may have changed meanwhile

    def _lost(self, tracked: Sequence[_Tracked], look: _Look) -> set[str]:
        """Requests that would miss their deadline even with the fewest steps for all."""
        return self._late(tracked, 0.0, set(), look)

    def _late(
        self, tracked: Sequence[_Tracked], share: float, lost: set[str], look: _Look
    ) -> set[str]:
        """Requests that would miss their deadline; those that are lost run the fewest steps."""
        in_order = sorted(tracked, key=lambda one: one.deadline)
        shares = [0.0 if one.request.id in lost else share for one in in_order]
        pairs = zip(in_order, shares, strict=True)
        work = [one.work(its_share, self._ratios) for one, its_share in pairs]
        times = finish_times(work, self._pace.step_seconds, self._max_tokens, look.others)
        return {
            one.request.id
            for one, time in zip(in_order, times, strict=True)
            if look.now + HEADROOM * time + RESERVE_S > one.deadline
        }

    def _stretched(self, request: Request, backlog: int) -> Request:
        """An elastic request gets fewer steps the more work waits."""
        rate = self._pace.token_forwards_per_s
        if not request.is_elastic or rate is None or backlog <= self._elastic_after_s * rate:
            return request
        steps = round(_wanted(request) * self._elastic_after_s * rate / backlog)
        return _shortened(request, max(request.min_steps, steps))


def _infeasible(one: _Tracked, now: float) -> DeadlineInfeasible:
    left_ms = max(0, round(1000 * (one.deadline - now)))
    fewest = f"{one.request.min_steps} steps do not fit beside what is running"
    return DeadlineInfeasible("deadline_ms", left_ms, f"more time: {fewest}")


def _wanted(request: Request) -> int:
    return request.params.steps or max(1, request.template.num_masked)


def _steps_of(request: Request) -> int:
    return request.timetable[0][1] if request.timetable else _wanted(request)


def _shortened(request: Request, steps: int) -> Request:
    return request if steps >= _wanted(request) else replace(request, timetable=((0, steps),))
