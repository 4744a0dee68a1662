"""What travels between ingress and replica: canvases to fill one way, their progress back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from dream import SamplingParams, StepEvent, Usage
from dream.request import FinishReason, Priority, Timetable
from dream.text import Piece, TextTemplate

__all__ = ["CanvasMap", "CanvasRequest", "CanvasResult", "CanvasUpdate", "FilledHole", "ModelCard"]
__all__ += ["Refusal", "RefusalCode", "SetToken", "StepMap", "StreamMode", "TokenReport", "Trace"]
__all__ += ["View"]

StreamMode = Literal["text", "steps", "snapshots"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasRequest:
    """One canvas to fill, before tokenisation.

    context: what stands before the template and is not shown, such as a chat. seeds: of the choices
    that this canvas answers, one for each. Several share a canvas only where no noise is drawn.
    logprobs: as of `dream.Request`. stop: strings that end a hole, stop_tokens: special tokens that
    do; neither cuts fixed text. is_whole: whether its text is that of the whole template, or that
    of the first hole alone.
    has_trace: whether the result says what each step committed. has_confidence: whether steps show
    probabilities.
    timetable, min_steps, is_elastic, key and priority: as of `dream.Request`; group: of one call.
    due_at: when it has to be done, by the clock of the ingress; time_left_s: until then, when it is
    sent. is_accepted: whether a replica has taken it before, so that no deadline refuses it.
    so_far: steps that another replica ran and told of, from which this one goes on without telling
    of them again; None begins at the beginning.
    """

    id: str
    template: TextTemplate
    params: SamplingParams
    context: tuple[Piece, ...] = ()
    seeds: tuple[int, ...] = (0,)
    logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[str, ...] = ()
    is_whole: bool = False
    has_trace: bool = False
    has_confidence: bool = True
    timetable: Timetable = ()
    min_steps: int = 1
    is_elastic: bool = False
    key: str = ""
    group: str | None = None
    priority: Priority = "interactive"
    due_at: float | None = None
    time_left_s: float | None = None
    is_accepted: bool = False
    so_far: tuple[StepEvent, ...] | None = None

    @property
    def num_steps(self) -> int:
        """Steps of its timetable at the beginning."""
        return self.params.steps or self.template.num_masked

    def sent(self, now: float) -> CanvasRequest:
        """The same as it leaves the ingress."""
        return self if self.due_at is None else replace(self, time_left_s=self.due_at - now)

    @property
    def canvas(self) -> TextTemplate:
        """Context and template together."""
        return TextTemplate([*self.context, *self.template.pieces])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a stream shows: finished text, each step's tokens too, or now and then all there is.

    every: steps from one snapshot to the next.
    """

    mode: StreamMode = "text"
    every: int = 1


class SetToken(NamedTuple):
    """A token on the canvas; `data` has its bytes where they are no whole characters."""

    position: int
    token_id: int
    text: str
    confidence: float | None = None
    data: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasMap:
    """A canvas before its first step; attempt: how many smaller ones it follows (`grow_to`)."""

    length: int
    fixed: tuple[SetToken, ...]
    steps: int
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMap:
    """What one step of the timetable committed."""

    step: int
    set: tuple[SetToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A canvas from its first step to its last; tail: what an early exit filled without a step."""

    canvases: tuple[CanvasMap, ...]
    steps: tuple[tuple[int, StepMap], ...]
    tail: tuple[SetToken, ...]


class TokenReport(NamedTuple):
    """A token's bytes and log-probability, and the same of the most probable ones."""

    data: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledHole:
    """The text of one hole, up to its first EOS or stop string; tokens up to the EOS.

    logprobs: of each token of the text, where they were asked for.
    """

    id: str
    text: str
    num_tokens: int
    logprobs: tuple[TokenReport, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasResult:
    """One filled canvas: its holes in order, why it ended, what it cost.

    queue_s, denoise_s: until its first step was done, and from then on. is_in_time: whether it was
    done before its deadline; None without one.
    """

    holes: tuple[FilledHole, ...]
    finish_reason: FinishReason
    num_canvas_tokens: int
    usage: Usage
    queue_s: float = 0.0
    denoise_s: float = 0.0
    is_in_time: bool | None = None
    trace: Trace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasUpdate:
    """News of one canvas of a stream, by its index; what is empty has not changed.

    text: follows the text of earlier updates. steps: length of the timetable, of which `step` is
    the latest. tail: of the last update, what an early exit filled without a step.
    token_forwards: what the canvas has cost so far, at most. events: the steps since the last
    update, except at the end: with all before they are what another replica needs to go on.
    """

    index: int
    step: int = 0
    steps: int = 0
    text: str = ""
    canvas: CanvasMap | None = None
    set: StepMap | None = None
    snapshot: str | None = None
    tail: tuple[SetToken, ...] = ()
    result: CanvasResult | None = None
    token_forwards: int = 0
    events: tuple[StepEvent, ...] = ()


RefusalCode = Literal[
    "compute_budget_exceeded",
    "context_length_exceeded",
    "deadline_infeasible",
    "invalid_value",
    "overloaded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why canvases are not run; `field` is dream's name, None for the whole request.

    A value and not an exception: Serve logs every exception of a replica with a traceback.
    """

    code: RefusalCode
    message: str
    field: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a replica knows about its model.

    preset: the name it was recognised by. special_tokens: those that requests may need, such as
    the marks of a chat. fingerprint: a digest of weights, engine and arithmetic.
    """

    max_model_len: int
    preset: str | None = None
    special_tokens: Sequence[str] = ()
    weights_sha256: str = ""
    fingerprint: str = ""
