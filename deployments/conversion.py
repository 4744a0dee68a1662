"""Between HTTP and dream, without effects: canvases to requests, and results to responses.

Text becomes tokens on the replica, because the tokenizer lies with the checkpoint. An ingress
therefore starts at once, and stays right when replicas come and go. It turns an HTTP request into
`CanvasRequest`s (`deployments.canvases`). A replica turns each of them into one `dream.Request`,
and its `Completion` into a `CanvasResult` (`to_request`, `to_result`). The ingress makes the
response of the results. Fixed text in it is the text of the request, byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import NamedTuple

from deployments.assembly import Decode, cut_at_stop
from deployments.events import told
from deployments.logprobs import chat_logprobs, completion_logprobs
from deployments.messages import CanvasRequest, CanvasResult, FilledHole
from deployments.requests import (
    CompletionRequest,
    InfillRequest,
)
from deployments.responses import (
    ChoiceDiffusion,
    CompletionChoice,
    CompletionResponse,
    InfillChoice,
    InfillResponse,
    InfillSpan,
    Resolved,
    ResponseUsage,
    UsageDiffusion,
)
from dream import Completion, Request, Span, Template
from dream.params import MAX_STEPS

__all__ = ["Head", "choices_of", "completion_response", "diffusion_of", "infill_response"]
__all__ += ["spans_of", "to_request", "to_result", "usage_of"]


class Head(NamedTuple):
    """What every answer and chunk begins with; created: seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str


def to_request(
    message: CanvasRequest, template: Template, stop_ids: Collection[int] = (), now: float = 0.0
) -> Request:
    """The canvas as the engine takes it, with its template and stop tokens by their ids.

    now: by the clock of the engine, when the message has come.
    """
    return Request(
        id=message.id,
        template=template,
        params=message.params,
        stop_ids=stop_ids,
        logprobs=message.logprobs,
        timetable=message.timetable,
        key=message.key,
        group=message.group,
        priority=message.priority,
        deadline=None if message.time_left_s is None else now + message.time_left_s,
        min_steps=message.min_steps,
        is_elastic=message.is_elastic,
    )


def to_result(message: CanvasRequest, completion: Completion, decode: Decode) -> CanvasResult:
    """The holes as text, each cut at the first stop string it contains."""
    texts = [decode(span.token_ids) for span in completion.spans]
    cut = [cut_at_stop(text, message.stop) for text in texts]
    holes = zip(completion.spans, cut, strict=True)
    return CanvasResult(
        holes=tuple(_filled_hole(span, text) for span, text in holes),
        finish_reason="stop" if all(map(_has_ended, completion.spans, texts, cut)) else "length",
        num_canvas_tokens=len(completion.token_ids),
        usage=completion.usage,
    )


def completion_response(
    request: CompletionRequest,
    messages: Sequence[CanvasRequest],
    results: Sequence[CanvasResult],
    head: Head,
) -> CompletionResponse:
    """OpenAI's text_completion; the text of a choice is the text of its hole."""
    choices = [
        CompletionChoice(
            index=index,
            text=result.holes[0].text,
            logprobs=completion_logprobs(result.holes[0]),
            finish_reason=result.finish_reason,
            diffusion=diffusion_of(message, result, seed),
        )
        for index, (message, result, seed) in enumerate(choices_of(messages, results))
    ]
    return CompletionResponse(
        **head._asdict(), choices=choices, usage=usage_of(results, len(request.prompt))
    )


def infill_response(
    request: InfillRequest,
    messages: Sequence[CanvasRequest],
    results: Sequence[CanvasResult],
    head: Head,
) -> InfillResponse:
    """The whole text of each choice, and its holes one by one."""
    choices = [
        InfillChoice(
            index=index,
            text=message.template.join([hole.text for hole in result.holes]),
            spans=spans_of(result),
            finish_reason=result.finish_reason,
            diffusion=diffusion_of(message, result, seed),
        )
        for index, (message, result, seed) in enumerate(choices_of(messages, results))
    ]
    return InfillResponse(
        **head._asdict(), choices=choices, usage=usage_of(results, num_templates=1)
    )


def _has_ended(span: Span, text: str, cut: str) -> bool:
    """Whether a hole ended before its last token, or at a stop string."""
    return cut != text or len(span.token_ids) < span.end - span.start


def _filled_hole(span: Span, text: str) -> FilledHole:
    return FilledHole(id=span.id, text=text, num_tokens=len(span.token_ids))


def choices_of(
    messages: Sequence[CanvasRequest], results: Sequence[CanvasResult]
) -> list[tuple[CanvasRequest, CanvasResult, int]]:
    """Every choice as its canvas, the result and its seed; prompts outermost, as OpenAI has it."""
    pairs = zip(messages, results, strict=True)
    return [(message, result, seed) for message, result in pairs for seed in message.seeds]


def diffusion_of(message: CanvasRequest, result: CanvasResult, seed: int) -> ChoiceDiffusion:
    params = asdict(message.params)
    del params["seed"]
    if message.params.grow_to is None and result.usage.steps <= MAX_STEPS:
        params["steps"] = result.usage.steps
    if message.params.order != "confidence":
        params["alg"] = None
    timetable = [list(change) for change in result.usage.timetable]
    is_plain = timetable in ([], [[0, message.num_steps]]) or message.params.grow_to is not None
    return ChoiceDiffusion(
        seed=seed,
        resolved=Resolved.model_validate(params),
        deadline_met=result.is_in_time,
        timetable=None if is_plain else timetable,
        trace=None if result.trace is None else told(result.trace),
    )


def spans_of(result: CanvasResult) -> list[InfillSpan]:
    """The holes of an infill."""
    return [
        InfillSpan(id=hole.id, text=hole.text, tokens=hole.num_tokens, logprobs=chat_logprobs(hole))
        for hole in result.holes
    ]


def usage_of(results: Sequence[CanvasResult], num_templates: int) -> ResponseUsage:
    costs = [result.usage for result in results]
    prompt_tokens = sum(cost.prompt_tokens for cost in costs[:: len(costs) // num_templates])
    completion_tokens = sum(cost.completion_tokens for cost in costs)
    forward_passes = sum(cost.forward_passes for cost in costs)
    return ResponseUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        diffusion=UsageDiffusion(
            steps=sum(cost.steps for cost in costs),
            forward_passes=forward_passes,
            token_forwards=sum(cost.token_forwards for cost in costs),
            canvas_tokens=sum(result.num_canvas_tokens for result in results),
            tokens_per_forward=round(completion_tokens / max(1, forward_passes), 3),
            forced_commits=sum(cost.forced_commits for cost in costs),
            approximation=next((c.approximation for c in costs if c.approximation), None),
            bit_exact=all(cost.bit_exact for cost in costs),
        ),
    )
