"""From HTTP requests to canvases: one for each template and choice that needs its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from deployments.messages import CanvasRequest
from deployments.requests import (
    OPENAI_NAMED,
    CompletionRequest,
    GenerationRequest,
    InfillRequest,
    Prompt,
    Segment,
)
from deployments.turns import Message, context_of
from dream import Fixed, Hole, SamplingParams
from dream.chat import TURN_END
from dream.options import options_of
from dream.presets import Preset, find_preset, quality_of, with_defaults, with_preset
from dream.text import Piece, TextTemplate

__all__ = ["Presets", "answering", "canvases", "completion_messages", "derive", "infill_messages"]

DIFFUSION_OPTIONS = set(options_of(SamplingParams)) - OPENAI_NAMED


def derive(seed: int, choice: int) -> int:
    """Seed of choice `choice`: choice 0 has `seed` itself, the others a hash keyed by it."""
    if choice == 0:
        return seed
    digest = blake2b(choice.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") >> 1


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
    options = request.diffusion
    return [
        CanvasRequest(
            id=f"{response_id}-{index}",
            template=template,
            params=replace(params, seed=share[0]),
            seeds=share,
            stop=tuple(request.stop or ()),
            logprobs=request.num_logprobs,
            has_trace=options.trace,
            has_confidence=options.confidence,
            timetable=tuple((at, steps) for at, steps in (options.timetable or [])[1:]),
            min_steps=options.fewest_steps(
                request.quality, params.steps or template.num_masked, template.num_masked
            ),
            is_elastic=options.elastic,
            group=response_id,
        )
        for index, (template, share) in enumerate(pairs)
    ]


def answering(plain: Sequence[CanvasRequest], messages: Sequence[Message]) -> list[CanvasRequest]:
    """The canvases as the next answer of a chat, which ends where a turn does."""
    context = context_of(messages)
    return [replace(canvas, context=context, stop_tokens=(TURN_END,)) for canvas in plain]


def _params(request: GenerationRequest, presets: Presets) -> SamplingParams:
    """What the request has, over its quality, its preset or else the server's; without a seed."""
    own = request.model_dump(include=set(OPENAI_NAMED), exclude_unset=True)
    own |= request.diffusion.model_dump(include=DIFFUSION_OPTIONS, exclude_unset=True)
    if own.get("alg", "") is None:
        del own["alg"]
    if (timetable := request.diffusion.timetable) is not None:
        own["steps"] = timetable[0][1]
    preset = find_preset(request.diffusion.preset) if request.diffusion.preset else presets.sampling
    if (quality := request.quality) is not None:
        own = with_defaults(quality_of(preset or presets.model, quality), own)
    return SamplingParams(**{"steps": None} | with_preset(preset, own))


def _prompt(prompt: Prompt) -> str | Fixed:
    return prompt if isinstance(prompt, str) else Fixed(prompt)


def _piece(segment: Segment) -> Piece:
    if segment.hole is not None:
        return Hole(segment.hole, segment.id, segment.priority)
    return segment.text or ""
