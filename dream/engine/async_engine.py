"""One thread that owns an Engine; asyncio callers send it requests and get their events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from dream.engine.deadlines import Deadlines
from dream.engine.pace import Pace
from dream.engine.stats import EngineStats
from dream.engine.step_engine import StepEngine
from dream.engine.step_times import StepTimes
from dream.errors import DreamError, EngineError
from dream.growth import most_token_forwards
from dream.request import Completion, Request, StepEvent

__all__ = ["AsyncEngine", "Closes"]

Item = StepEvent | Completion | Exception

Closes = Callable[[StepEvent], bool]
"""Told each step of a request, in the engine's thread; says whether the request ends with it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Caller:
    """Who waits for one request; two callers are never equal."""

    request: Request
    closes: Closes | None
    so_far: Sequence[StepEvent]
    loop: asyncio.AbstractEventLoop
    items: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)

    def emit(self, item: Item) -> None:
        try:
            self.loop.call_soon_threadsafe(self.items.put_nowait, item)
        except RuntimeError:  # the caller's loop is closed: nobody waits for this any more
            return


ELASTIC_AFTER_S = 2.0
"""Seconds of queued work from which on elastic requests take fewer steps."""


class AsyncEngine:
    """Continuous batching for asyncio: requests join and leave between two steps."""

    def __init__(
        self,
        engine: StepEngine,
        clock: Callable[[], float] = time.monotonic,
        *,
        elastic_after_s: float = ELASTIC_AFTER_S,
    ) -> None:
        """clock: of deadlines. elastic_after_s: as of `Deadlines`."""
        self._engine = engine
        self.clock = clock
        self._step_began: float | None = None
        self.pace = Pace()
        self._limits = engine.limits
        self.step_times = StepTimes()
        most = engine.limits.max_num_batched_tokens
        self._deadlines = Deadlines(self.pace, most, elastic_after_s, clock)
        self._others = 0
        self._wake = threading.Condition()
        self._inbox: deque[_Caller] = deque()
        self._arriving: list[_Caller] = []
        self._cancelled: deque[_Caller] = deque()
        self._callers: dict[str, _Caller] = {}
        self._closing: set[str] = set()
        self._backlog = 0
        self._is_closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="dream-engine", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> EngineStats:
        """The engine's counters, as of its last step."""
        return self._engine.stats

    @property
    def num_requests(self) -> int:
        """Requests waiting or running."""
        return len(self._callers) + len(self._inbox)

    @property
    def queued_token_forwards(self) -> int:
        """Tokens x forward passes still to run for everything waiting or running."""
        waiting = sum(most_token_forwards(caller.request) for caller in tuple(self._inbox))
        return self._backlog + waiting

    @property
    def step_age_s(self) -> float:
        """How long the present step has been running; 0 between two steps."""
        began = self._step_began
        return 0.0 if began is None else max(0.0, self.clock() - began)

    def check(self, request: Request) -> None:
        """Raise the InvalidRequest of a request that the engine could not take."""
        self._limits.check(request)

    def fit(self, requests: Sequence[Request], *, may_refuse: bool = True) -> list[Request]:
        """The requests with the steps that there is time for; deadlines are by `clock`.

        DeadlineInfeasible where even the fewest would end too late, if that may be refused.
        """
        backlog = self.queued_token_forwards
        return self._deadlines.fit(requests, backlog, self._others, may_refuse=may_refuse)

    async def generate(
        self, request: Request, closes: Closes | None = None, so_far: Sequence[StepEvent] = ()
    ) -> AsyncGenerator[StepEvent | Completion]:
        """Every step of a request, then its completion; closing the iterator aborts it.

        closes: ends the request right after the first step of which it says so; nothing more is
        run for it. so_far: steps that another engine has run, which `closes` is told first; the
        steps after them follow. Raises InvalidRequest where `Engine.add` would, EngineError when
        the engine has died.
        """
        caller = _Caller(request, closes, so_far, asyncio.get_running_loop())
        with self._wake:
            self.check_health()
            self._inbox.append(caller)
            self._wake.notify()
        is_over = False
        try:
            while not is_over:
                item = await caller.items.get()
                is_over = not isinstance(item, StepEvent)
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            if not is_over:
                self._cancel(caller)

    def check_health(self) -> None:
        """Raise EngineError when the engine can take no more requests."""
        if self._error is not None:
            raise EngineError(f"the engine has died: {self._error}") from self._error
        if self._is_closed or not self._thread.is_alive():
            raise EngineError("the engine is shut down")
        self._engine.check_health()

    def abandon(self, reason: str) -> None:
        """Give the engine up without waiting for its step; whoever waits gets an EngineError."""
        self._error = EngineError(reason)
        self._fail_all(EngineError(f"the engine is given up: {reason}"))

    def shutdown(self) -> None:
        """End the thread; whoever still waits gets an EngineError."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        self._thread.join()

    def _cancel(self, caller: _Caller) -> None:
        with self._wake:
            self._cancelled.append(caller)
            self._wake.notify()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._take_messages()
                events = self._step()
                for event in events:
                    self._deadlines.observe(event)
                self._backlog = self._engine.pending_token_forwards
                self._deliver(events)
        except Exception as error:  # the one place: it reaches every caller
            self._error = error
        self._fail_all(EngineError(f"the engine has stopped: {self._error or 'shut down'}"))
        self._engine.shutdown()

    def _step(self) -> list[StepEvent]:
        tokens_before, began = self._engine.stats.token_forwards, self.clock()
        self._step_began = began
        events = self._engine.step()
        self._step_began = None
        tokens, seconds = self._engine.stats.token_forwards - tokens_before, self.clock() - began
        self.pace.observe(tokens, seconds)
        self.step_times.record(tokens, seconds)
        return events

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._is_closed or self._inbox or self._cancelled or self._engine.has_work):
                self._backlog = 0
                self._wake.wait()
            return not self._is_closed

    def _take_messages(self) -> None:
        with self._wake:
            self._arriving, gone = list(self._inbox), list(self._cancelled)
            self._inbox.clear()
            self._cancelled.clear()
        for caller in gone:
            self._leave(caller)
        for caller in self._arriving:
            if caller not in gone:
                self._admit(caller)
        self._arriving = []
        for request_id, steps in self._deadlines.replans(self._others):
            self._engine.replan(request_id, steps)
        self._backlog = self._engine.pending_token_forwards

    def _admit(self, caller: _Caller) -> None:
        try:
            self._engine.add(caller.request, caller.so_far)
        except DreamError as error:
            caller.emit(error)
            return
        self._callers[caller.request.id] = caller
        self._deadlines.track(caller.request, caller.so_far)
        self._others += _length_without_deadline(caller.request)
        if caller.closes is not None and any(map(caller.closes, caller.so_far)):
            self._close(caller)

    def _leave(self, caller: _Caller) -> None:
        """Abort the caller's own request; another one may live under the same id."""
        if self._callers.get(caller.request.id) is caller:
            self._engine.abort(caller.request.id)
            self._forget(caller.request.id)

    def _close(self, caller: _Caller) -> None:
        """End a request; of an engine that answers later, what it still does is not told."""
        completion = self._engine.close(caller.request.id)
        if completion is None:
            self._closing.add(caller.request.id)
        else:
            self._finish(completion)

    def _deliver(self, events: list[StepEvent]) -> None:
        for event in events:
            caller = self._callers.get(event.request_id)
            if caller is None or event.request_id in self._closing:
                continue
            caller.emit(event)
            if caller.closes is not None and caller.closes(event):
                self._close(caller)
        for completion in self._engine.collect():
            self._finish(completion)

    def _finish(self, completion: Completion) -> None:
        if (caller := self._forget(completion.id)) is not None:
            self._deadlines.learn(caller.request, completion)
            caller.emit(completion)

    def _forget(self, request_id: str) -> _Caller | None:
        self._closing.discard(request_id)
        self._deadlines.forget(request_id)
        caller = self._callers.pop(request_id, None)
        if caller is not None:
            self._others -= _length_without_deadline(caller.request)
        return caller

    def _fail_all(self, error: EngineError) -> None:
        with self._wake:
            self._is_closed = True
            self._wake.notify()
            waiting = {*list(self._callers.values()), *self._inbox, *self._arriving}
            self._callers.clear()
            self._inbox.clear()
        for caller in waiting:
            caller.emit(error)


def _length_without_deadline(request: Request) -> int:
    return 0 if request.deadline is not None else request.template.num_tokens
