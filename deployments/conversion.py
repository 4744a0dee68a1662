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

from deployments.assembly import Decode, cut_at_stop
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
from dream import Completion, Fixed, Hole, Request, SamplingParams, Span, Template
from dream.presets import find_preset, with_preset
from dream.text import Piece, TextTemplate

__all__ = [
    "completion_messages",
    "completion_response",
    "derive",
    "infill_messages",
    "infill_response",
    "to_request",
    "to_result",
]


def derive(seed: int, choice: int) -> int:
    """Seed of choice `choice`: choice 0 has `seed` itself, the others a hash keyed by it."""
    if choice == 0:
        return seed
    digest = blake2b(choice.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") >> 1


def completion_messages(
    request: CompletionRequest, *, response_id: str, seed: int, preset: str | None = None
) -> list[CanvasRequest]:
    """The canvases of each prompt, in the order of the prompts; `preset` is the server's."""
    hole = Hole(request.max_tokens)
    templates = [
        TextTemplate([_prompt(prompt), hole, request.suffix or ""]) for prompt in request.prompt
    ]
    return _messages(request, templates, response_id, seed, preset)


def infill_messages(
    request: InfillRequest, *, response_id: str, seed: int, preset: str | None = None
) -> list[CanvasRequest]:
    """The canvases of the one template; `preset` is the server's."""
    return _messages(request, [_template(request)], response_id, seed, preset)


def to_request(
    message: CanvasRequest, template: Template, stop_ids: Collection[int] = ()
) -> Request:
    """The canvas as the engine takes it, with its template and stop tokens by their ids."""
    return Request(id=message.id, template=template, params=message.params, stop_ids=stop_ids)


def to_result(message: CanvasRequest, completion: Completion, decode: Decode) -> CanvasResult:
    """The holes as text, each cut at the first stop string it contains."""
    texts = [decode(span.token_ids) for span in completion.spans]
    cut = [cut_at_stop(text, message.stop) for text in texts]
    holes = zip(completion.spans, cut, strict=True)
    return CanvasResult(
        holes=tuple(_filled_hole(span, text) for span, text in holes),
        finish_reason="stop" if cut != texts else completion.finish_reason,
        num_canvas_tokens=len(completion.token_ids),
        usage=completion.usage,
    )


def completion_response(
    request: CompletionRequest,
    messages: Sequence[CanvasRequest],
    results: Sequence[CanvasResult],
    *,
    response_id: str,
    created: int,
) -> CompletionResponse:
    """OpenAI's text_completion; the text of a choice is the text of its hole."""
    choices = [
        CompletionChoice(
            index=index,
            text=result.holes[0].text,
            finish_reason=result.finish_reason,
            diffusion=_choice_diffusion(message, result, seed),
        )
        for index, (message, result, seed) in enumerate(_choices(messages, results))
    ]
    return CompletionResponse(
        id=response_id,
        created=created,
        model=request.model,
        choices=choices,
        usage=_usage(results, len(request.prompt)),
    )


def infill_response(
    request: InfillRequest,
    messages: Sequence[CanvasRequest],
    results: Sequence[CanvasResult],
    *,
    response_id: str,
    created: int,
) -> InfillResponse:
    """The whole text of each choice, and its holes one by one."""
    choices = [
        InfillChoice(
            index=index,
            text=message.template.join([hole.text for hole in result.holes]),
            spans=[InfillSpan(id=h.id, text=h.text, tokens=h.num_tokens) for h in result.holes],
            finish_reason=result.finish_reason,
            diffusion=_choice_diffusion(message, result, seed),
        )
        for index, (message, result, seed) in enumerate(_choices(messages, results))
    ]
    return InfillResponse(
        id=response_id,
        created=created,
        model=request.model,
        choices=choices,
        usage=_usage(results, num_templates=1),
    )


def _prompt(prompt: Prompt) -> str | Fixed:
    return prompt if isinstance(prompt, str) else Fixed(prompt)


def _template(request: InfillRequest) -> TextTemplate:
    return TextTemplate([_piece(segment) for segment in request.segments])


def _piece(segment: Segment) -> Piece:
    if segment.hole is not None:
        return Hole(segment.hole, segment.id, segment.priority)
    return segment.text or ""


def _messages(
    request: GenerationRequest,
    templates: Sequence[TextTemplate],
    response_id: str,
    seed: int,
    preset: str | None,
) -> list[CanvasRequest]:
    """One canvas for each template and choice; one for all choices where nothing is drawn."""
    seeds = tuple(derive(seed, choice) for choice in range(request.n))
    params = _params(request, preset)
    is_drawn = params.is_drawn
    shares = [(each,) for each in seeds] if is_drawn else [seeds]
    canvases = [(template, share) for template in templates for share in shares]
    return [
        CanvasRequest(
            id=f"{response_id}-{index}",
            template=template,
            params=replace(params, seed=share[0]),
            seeds=share,
            stop=tuple(request.stop or ()),
        )
        for index, (template, share) in enumerate(canvases)
    ]


def _params(request: GenerationRequest, preset: str | None) -> SamplingParams:
    """What the request has, over its preset or else the server's; without a seed."""
    own = request.model_dump(include=set(OPENAI_NAMED), exclude_unset=True)
    own |= request.diffusion.model_dump(exclude_unset=True)
    named = own.pop("preset", None) or preset
    if own.get("alg", "") is None:
        del own["alg"]
    return SamplingParams(**{"steps": None} | with_preset(find_preset(named), own))


def _filled_hole(span: Span, text: str) -> FilledHole:
    return FilledHole(id=span.id, text=text, num_tokens=len(span.token_ids))


def _choices(
    messages: Sequence[CanvasRequest], results: Sequence[CanvasResult]
) -> list[tuple[CanvasRequest, CanvasResult, int]]:
    """Every choice as its canvas, the result and its seed; prompts outermost, as OpenAI has it."""
    pairs = zip(messages, results, strict=True)
    return [(message, result, seed) for message, result in pairs for seed in message.seeds]


def _choice_diffusion(message: CanvasRequest, result: CanvasResult, seed: int) -> ChoiceDiffusion:
    params = asdict(message.params)
    del params["seed"]
    if message.params.grow_to is None:
        params["steps"] = result.usage.steps
    if message.params.order != "confidence":
        params["alg"] = None
    return ChoiceDiffusion(seed=seed, resolved=Resolved.model_validate(params))


def _usage(results: Sequence[CanvasResult], num_templates: int) -> ResponseUsage:
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
