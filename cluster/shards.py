"""One engine over several processes: commands go to all of them, one tick ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.rank import Abort, Add, Close, Command, Replan, Report, Ticked
from cluster.rank_group import TICK_S, RankGroup, Timeouts, start_ranks
from dream.engine.config import EngineConfig
from dream.engine.limits import Limits
from dream.engine.stats import EngineStats
from dream.engine.step_engine import StepEngine
from dream.engine.warm import warm_engine
from dream.errors import EngineError, InvalidRequest
from dream.growth import most_token_forwards
from dream.request import Completion, Request, StepEvent

__all__ = ["ShardedEngine", "sharded_engine", "start_engine"]


def start_engine(model: str, config: EngineConfig, max_step_s: float = TICK_S) -> StepEngine:
    """A warmed engine: in this process, or in one for each part of the weights.

    max_step_s: after so long without an end of its step it counts as stalled.
    """
    if config.tensor_parallel > 1:
        return sharded_engine(model, config, Timeouts(tick_s=max_step_s))
    return warm_engine(model, config)


def sharded_engine(
    model: str, config: EngineConfig, timeouts: Timeouts | None = None
) -> ShardedEngine:
    """A warmed engine over `config.tensor_parallel` processes."""
    models = [model] * config.tensor_parallel
    return ShardedEngine(start_ranks(models, config, timeouts or Timeouts()))


@dataclass(slots=True)
class _Open:
    """A request under way: the tick that brings it to the ranks, and whether it is closed."""

    request: Request
    since: int
    is_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A tick that the ranks have not answered yet."""

    number: int
    answers: Sequence[Any]
    has_commands: bool
    token_forwards: int


class ShardedEngine:
    """A `StepEngine` whose ranks run the same steps, each on its part of the weights.

    Scheduling and noise depend on the requests alone, so ranks agree without asking each other.
    Each tick they report a checksum of what they committed. Where one differs, dies or is silent,
    all are killed and every later call raises EngineError.
    """

    def __init__(self, ranks: RankGroup, ahead: int = 1) -> None:
        """ahead: ticks sent beyond the one waited for, which hide the time of the call."""
        assert ranks.loaded is not None, "the ranks have started"
        self.limits: Limits = ranks.loaded.limits
        self._canvases = ranks.loaded.canvases
        self.pids = tuple(ranks.pids)
        self._ranks = ranks
        self._ahead = ahead
        self._open: dict[str, _Open] = {}
        self._finished: dict[str, Completion] = {}
        self._commands: list[Command] = []
        self._token_forwards = 0
        self._sent: deque[_Sent] = deque()
        self.num_ticks = 0
        self._report = Report(
            events=(),
            completions=(),
            has_work=False,
            pending_token_forwards=0,
            stats=EngineStats(),
        )
        self._error: EngineError | None = None

    @property
    def stats(self) -> EngineStats:
        """Rank 0's counters, as of the last tick."""
        return self._report.stats

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished, an answer not collected, or a tick not answered."""
        return bool(self._open or self._finished or self._commands or self._sent)

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run, at most."""
        on_the_way = sum(tick.token_forwards for tick in self._sent)
        return self._report.pending_token_forwards + on_the_way + self._token_forwards

    def add(self, request: Request, so_far: Sequence[StepEvent] = ()) -> None:
        """Queue a request with the next tick; InvalidRequest at once where it cannot run."""
        self._raise_if_dead()
        if request.id in self._open or request.id in self._finished:
            raise InvalidRequest("id", request.id, "not the id of a request that is under way")
        self.limits.check(request)
        if so_far:
            self._canvases.resume(request, so_far)  # InvalidRequest here, and not on the ranks
        self._open[request.id] = _Open(request, self.num_ticks)
        self._commands.append(Add(request, tuple(so_far)))
        self._token_forwards += most_token_forwards(request)

    def replan(self, request_id: str, steps: int) -> None:
        """Have the timetable of a request end after `steps` steps, from a step soon on."""
        if (one := self._open.get(request_id)) is None:
            return
        if one.request.params.grow_to is not None:
            raise InvalidRequest("steps", steps, "what the request has, beside grow_to")
        self._commands.append(Replan(request_id, steps))

    def abort(self, request_id: str) -> None:
        """Drop a request: nothing of it is told from now on."""
        self._finished.pop(request_id, None)
        if self._open.pop(request_id, None) is not None:
            self._commands.append(Abort(request_id))

    def close(self, request_id: str) -> Completion | None:
        """End a request with what it has when the next tick arrives; `collect` has it then."""
        if (done := self._finished.pop(request_id, None)) is not None:
            return done
        if request_id not in self._open:
            raise InvalidRequest("id", request_id, "the id of a request that is under way")
        self._open[request_id].is_closed = True
        self._commands.append(Close(request_id))
        return None

    def step(self) -> list[StepEvent]:
        """The events of the oldest tick under way, once later ones are sent; [] when idle."""
        self._raise_if_dead()
        while len(self._sent) <= self._ahead and self._is_tick_due:
            self._send()
        if not self._sent:
            return []
        try:
            return self._receive(self._sent.popleft())
        except EngineError as error:
            self._error = error
            self._ranks.kill()
            raise

    def collect(self) -> list[Completion]:
        """Completions since the last call, in the order they finished."""
        finished = list(self._finished.values())
        self._finished.clear()
        return finished

    def check_health(self) -> None:
        """EngineError where a rank has died or is silent; never waits."""
        self._raise_if_dead()
        self._ranks.check_health()

    def shutdown(self) -> None:
        """End the ranks, and give back their bundles."""
        if self._error is None:
            self._error = EngineError("the engine is shut down")
            self._ranks.shutdown()

    @property
    def _is_tick_due(self) -> bool:
        """Whether the ranks have something to do beyond the ticks that are on their way."""
        on_the_way = any(tick.has_commands for tick in self._sent)
        return bool(self._commands) or self._report.has_work or on_the_way

    def _send(self) -> None:
        commands, self._commands = tuple(self._commands), []
        tick = _Sent(
            number=self.num_ticks,
            answers=self._ranks.call("tick", self.num_ticks, commands),
            has_commands=bool(commands),
            token_forwards=self._token_forwards,
        )
        self._token_forwards = 0
        self.num_ticks += 1
        self._sent.append(tick)

    def _receive(self, tick: _Sent) -> list[StepEvent]:
        what = f"tick {tick.number}"
        answers = self._ranks.gather(tick.answers, self._ranks.timeouts.tick_s, what)
        self._report = _agreed(answers, tick.number)
        events = [
            event
            for event in self._report.events
            if (one := self._current(event.request_id, tick)) is not None and not one.is_closed
        ]
        for done in self._report.completions:
            if self._current(done.id, tick) is not None:
                self._finished[done.id] = done
                del self._open[done.id]
        return events

    def _current(self, request_id: str, tick: _Sent) -> _Open | None:
        """The request of an id; None for an earlier one that was aborted."""
        found = self._open.get(request_id)
        return None if found is None or found.since > tick.number else found

    def _raise_if_dead(self) -> None:
        if self._error is not None:
            raise EngineError(str(self._error)) from self._error


def _agreed(answers: Sequence[Ticked], number: int) -> Report:
    """Rank 0's report; EngineError names the ranks that committed something else."""
    first = answers[0]
    if wrong := [rank for rank, one in enumerate(answers) if one.checksum != first.checksum]:
        ranks = ", ".join(map(str, wrong))
        raise EngineError(f"tick {number}: rank {ranks} committed other tokens than rank 0")
    assert first.report is not None, "rank 0 reports"
    return first.report
