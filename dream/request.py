"""A request, its answer, and what happens in between."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from dream.errors import InvalidRequest
from dream.params import SamplingParams
from dream.template import Template

__all__ = ["MAX_LOGPROBS", "Completion", "FinishReason", "Priority", "Request", "Span"]
__all__ += ["StepEvent", "Timetable", "TokenLogprobs", "Usage"]

FinishReason = Literal["stop", "length"]
Priority = Literal["interactive", "batch"]

Timetable = Sequence[tuple[int, int]]
"""(at_step, steps): from step `at_step` on the timetable has `steps` steps in all."""

MAX_LOGPROBS = 5
"""Most alternatives whose log-probabilities a request may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One template to fill under one set of parameters; `id` is unique within an engine.

    stop_ids: tokens that end a hole as an EOS does, such as the end of a turn.
    logprobs: report the log-probability of each committed token, and so many of the most probable
    tokens with theirs; None reports none.
    timetable: changes of the number of steps on the way, ascending; not with `grow_to`.

    Of the other fields depends when it runs, and no token. key: whose it is; keys share the engine
    in equal parts. group: requests of one key that came together and take turns as one; None is a
    group of its own. priority: interactive work goes before batch work. deadline: seconds of any
    clock; of requests that have one the earliest goes first. min_steps: the fewest steps to run
    with where time is short, and is_elastic: whether it is whenever much work waits (`Deadlines`).
    """

    id: str
    template: Template
    params: SamplingParams
    stop_ids: Collection[int] = ()
    logprobs: int | None = None
    timetable: Timetable = ()
    key: str = ""
    group: str | None = None
    priority: Priority = "interactive"
    deadline: float | None = None
    min_steps: int = 1
    is_elastic: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise InvalidRequest("id", self.id, "a non-empty string")
        if not all(type(token) is int and token >= 0 for token in self.stop_ids):
            raise InvalidRequest("stop_ids", self.stop_ids, "token ids")
        object.__setattr__(self, "stop_ids", frozenset(self.stop_ids))
        if self.logprobs is not None and not _is_count(self.logprobs):
            allowed = f"None or an integer 0..{MAX_LOGPROBS}"
            raise InvalidRequest("logprobs", self.logprobs, allowed)
        if self.deadline is not None and not math.isfinite(self.deadline):
            raise InvalidRequest("deadline", self.deadline, "a finite number")
        object.__setattr__(self, "timetable", tuple((at, steps) for at, steps in self.timetable))
        if self.params.grow_to is not None:
            for name, default in (("timetable", ()), ("deadline", None), ("is_elastic", False)):
                if (value := getattr(self, name)) != default:
                    raise InvalidRequest(name, value, f"{default} beside grow_to")
        if self.timetable:
            self._check_timetable()

    def _check_timetable(self) -> None:
        starts = [at for at, _ in self.timetable]
        is_ascending = starts[0] >= 0 and all(a < b for a, b in pairwise(starts))
        counts = [self.params.steps or max(1, self.template.num_masked)]
        counts += [steps for _, steps in self.timetable]
        is_falling = all(a >= b for a, b in pairwise(counts))
        if not (is_ascending and is_falling and all(at < n for at, n in self.timetable)):
            allowed = "pairs (at_step, steps), at_step >= 0, ascending and below steps, which fall"
            raise InvalidRequest("timetable", self.timetable, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """How probable a committed token was, in nats, in the raw distribution of its position.

    That is softmax of the logits at the step that committed it, before temperature and filters.
    top: the most probable ids, highest first, then lowest id; the committed one may be among them.
    """

    logprob: float
    top: Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """What one step committed.

    step: index in the request's own timetable (0-based; skipped steps keep their numbers).
    positions: canvas positions, ascending. token_ids, confidences: one for each position.
    attempt: how many smaller canvases the request has filled before (`grow_to`).
    logprobs: one for each position, where the request asks for them.
    steps: length of the timetable that this step belongs to.
    forced_commits: how many of the tokens the commit rule did not allow.

    All events of a request are all of its state: an engine goes on from them (`Engine.add`).
    """

    request_id: str
    step: int
    positions: Sequence[int]
    token_ids: Sequence[int]
    confidences: Sequence[float]
    attempt: int = 0
    logprobs: Sequence[TokenLogprobs] | None = None
    steps: int = 0
    forced_commits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A filled hole: its tokens cut at the first EOS or stop id, and its place on the canvas."""

    id: str
    start: int
    end: int
    token_ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a request costs by itself; the price is `token_forwards` (tokens x forward passes).

    steps: length of the timetable. completion_tokens: hole tokens up to each first EOS.
    With `grow_to` all but the numbers of tokens are sums over the attempts.
    forced_commits: masks that the timetable or `min_commits` filled, and the rule did not allow.
    approximation: the approximate mode that ran, with its settings; None for exact decoding.
    bit_exact: whether the engine gives the same bits alone and in any batch.
    timetable: how many steps it had from which step on; of the last attempt.
    """

    prompt_tokens: int
    completion_tokens: int
    steps: int
    forward_passes: int
    token_forwards: int
    forced_commits: int = 0
    approximation: str | None = None
    bit_exact: bool = False
    timetable: Timetable = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The whole canvas, its spans, and the cost.

    finish_reason: `stop` when every hole ended with an EOS or a stop id, or the request was closed;
    `length` when one was filled up.
    logprobs: by canvas position, where the request asks for them; a position that an early exit
    filled has none, and with `grow_to` they are those of the last attempt.
    """

    id: str
    token_ids: Sequence[int]
    spans: Sequence[Span]
    finish_reason: FinishReason
    usage: Usage
    logprobs: Mapping[int, TokenLogprobs] | None = None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_LOGPROBS
