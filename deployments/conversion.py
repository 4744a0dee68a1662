"""Between HTTP and dream, without effects: requests to canvases, and results to responses.

Text becomes tokens on the replica, because the tokenizer lies with the checkpoint. An ingress
therefore starts at once, and stays right when replicas come and go. It turns an HTTP request into
`CanvasRequest`s (`completion_messages`, `infill_messages`). A replica turns each of them into one
`dream.Request`, and its `Completion` into a `CanvasResult` (`to_request`, `to_result`). The ingress
makes the response of the results. Fixed text in it is the text of the request, byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from typing import NamedTuple

from deployments.assembly import Decode, cut_at_stop
from deployments.events import told
from deployments.logprobs import chat_logprobs, completion_logprobs
from deployments.messages import CanvasRequest, CanvasResult, FilledHole
from deployments.requests import (
    OPENAI_NAMED,
    CompletionRequest,
    GenerationRequest,
    InfillRequest,
    Prompt,
    Segment,
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
from deployments.turns import Message, context_of
from dream import Completion, Fixed, Hole, Request, SamplingParams, Span, Template
from dream.chat import TURN_END
from dream.options import options_of
from dream.params import MAX_STEPS
from dream.presets import Preset, find_preset, quality_of, with_defaults, with_preset
from dream.text import Piece, TextTemplate

__all__ = ["Head", "Presets", "answering", "canvases", "choices_of", "completion_messages"]
__all__ += ["completion_response", "derive", "diffusion_of", "infill_messages", "infill_response"]
__all__ += ["spans_of", "to_request", "to_result", "usage_of"]

DIFFUSION_OPTIONS = set(options_of(SamplingParams)) - OPENAI_NAMED


def derive(seed: int, choice: int) -> int:
    """Seed of choice `choice`: choice 0 has `seed` itself, the others a hash keyed by it."""
    if choice == 0:
        return seed
    digest = blake2b(choice.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") >> 1


class Head(NamedTuple):
    """What every answer and chunk begins with; created: seconds since 1970."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Presets(NamedTuple):
    """Presets for what a request leaves out.

    sampling: the server's, applied to every request. model: the one of the model in use, which says
    what a `quality` means.
    """

    sampling: Preset | None = None
    model: Preset | None = None


def completion_messages(
    request: CompletionRequest, response_id: str, seed: int, presets: Presets
) -> list[CanvasRequest]:
    """The canvases of each prompt, in the order of the prompts."""
    hole = Hole(request.max_tokens)
    templates = [
        TextTemplate([_prompt(prompt), hole, request.suffix or ""]) for prompt in request.prompt
    ]
    return canvases(request, templates, response_id, seed, presets)


def infill_messages(
    request: InfillRequest, response_id: str, seed: int, presets: Presets
) -> list[CanvasRequest]:
    """The canvases of the one template."""
    template = TextTemplate([_piece(segment) for segment in request.segments])
    plain = canvases(request, [template], response_id, seed, presets)
    whole = [replace(canvas, is_whole=True) for canvas in plain]
    return whole if request.messages is None else answering(whole, request.messages)


def answering(plain: Sequence[CanvasRequest], messages: Sequence[Message]) -> list[CanvasRequest]:
    """The canvases as the next answer of a chat, which ends where a turn does."""
    context = context_of(messages)
    return [replace(canvas, context=context, stop_tokens=(TURN_END,)) for canvas in plain]


def to_request(
    message: CanvasRequest, template: Template, stop_ids: Collection[int] = ()
) -> Request:
    """The canvas as the engine takes it, with its template and stop tokens by their ids."""
    return Request(
        id=message.id,
        template=template,
        params=message.params,
        stop_ids=stop_ids,
        logprobs=message.logprobs,
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


def _prompt(prompt: Prompt) -> str | Fixed:
    return prompt if isinstance(prompt, str) else Fixed(prompt)


def _piece(segment: Segment) -> Piece:
    if segment.hole is not None:
        return Hole(segment.hole, segment.id, segment.priority)
    return segment.text or ""


def canvases(
    request: GenerationRequest,
    templates: Sequence[TextTemplate],
    response_id: str,
    seed: int,
    presets: Presets,
) -> list[CanvasRequest]:
    """One canvas for each template and choice; one for all choices where nothing is drawn."""
    seeds = tuple(derive(seed, choice) for choice in range(request.n))
    params = _params(request, presets)
    shares = [(each,) for each in seeds] if params.is_drawn else [seeds]
    pairs = [(template, share) for template in templates for share in shares]
    return [
        CanvasRequest(
            id=f"{response_id}-{index}",
            template=template,
            params=replace(params, seed=share[0]),
            seeds=share,
            stop=tuple(request.stop or ()),
            logprobs=request.num_logprobs,
            has_trace=request.diffusion.trace,
            has_confidence=request.diffusion.confidence,
        )
        for index, (template, share) in enumerate(pairs)
    ]


def _params(request: GenerationRequest, presets: Presets) -> SamplingParams:
    """What the request has, over its quality, its preset or else the server's; without a seed."""
    own = request.model_dump(include=set(OPENAI_NAMED), exclude_unset=True)
    own |= request.diffusion.model_dump(include=DIFFUSION_OPTIONS, exclude_unset=True)
    if own.get("alg", "") is None:
        del own["alg"]
    preset = find_preset(request.diffusion.preset) if request.diffusion.preset else presets.sampling
    if (quality := request.quality) is not None:
        own = with_defaults(quality_of(preset or presets.model, quality), own)
    return SamplingParams(**{"steps": None} | with_preset(preset, own))


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
    trace = None if result.trace is None else told(result.trace)
    return ChoiceDiffusion(seed=seed, resolved=Resolved.model_validate(params), trace=trace)


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
