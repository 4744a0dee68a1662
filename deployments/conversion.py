"""Between the wire and dream, without effects: bodies to drafts, drafts to requests, and back.

Text becomes tokens on the replica, because the tokenizer lies with the checkpoint: an ingress
needs neither, starts at once, and stays right when replicas come and go. So the ingress turns a
body into `Draft`s (`completion_drafts`, `infill_drafts`), a replica turns each draft into one
`dream.Request` and its `Completion` into a `Filling` (`to_request`, `to_filling`), and the ingress
makes the answer of fillings and its own body. The fixed text of an answer is thus the text of the
request itself, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import blake2b

from deployments.messages import Draft, FilledHole, Filling
from deployments.requests import CompletionBody, GenerationBody, InfillBody, Prompt, Segment
from deployments.responses import (
    AnswerUsage,
    ChoiceDiffusion,
    CompletionAnswer,
    CompletionChoice,
    InfillAnswer,
    InfillChoice,
    InfillSpan,
    Resolved,
    UsageDiffusion,
)
from dream import Completion, Fixed, Hole, Request, SamplingParams, Span, Template

__all__ = [
    "completion_answer",
    "completion_drafts",
    "derive",
    "infill_answer",
    "infill_drafts",
    "to_filling",
    "to_request",
]


def derive(seed: int, choice: int) -> int:
    """Seed of choice `choice`: choice 0 has `seed` itself, the others a hash keyed by it."""
    if choice == 0:
        return seed
    digest = blake2b(choice.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") >> 1


def completion_drafts(body: CompletionBody, *, answer_id: str, seed: int) -> list[Draft]:
    """One draft for each prompt and choice, prompts outermost: OpenAI's order of choices."""
    hole = Hole(body.max_tokens)
    suffix = (body.suffix,) if body.suffix else ()
    templates = [(_fixed(prompt), hole, *suffix) for prompt in body.prompt]
    return _drafts(body, templates, answer_id, seed)


def infill_drafts(body: InfillBody, *, answer_id: str, seed: int) -> list[Draft]:
    """One draft for each choice."""
    template = tuple(_segment(segment) for segment in body.segments)
    return _drafts(body, [template], answer_id, seed)


def to_request(draft: Draft, encode: Callable[[str], list[int]]) -> Request:
    """The draft with its text encoded; every text segment is encoded on its own."""
    segments = [Fixed(encode(s)) if isinstance(s, str) else s for s in draft.segments]
    return Request(id=draft.id, template=Template(segments), params=draft.params)


def to_filling(
    draft: Draft, completion: Completion, decode: Callable[[Sequence[int]], str]
) -> Filling:
    """The holes as text, each cut at the first stop string it contains."""
    texts = [decode(span.token_ids) for span in completion.spans]
    cut = [_cut(text, draft.stop) for text in texts]
    holes = zip(completion.spans, cut, strict=True)
    return Filling(
        holes=tuple(_filled_hole(span, text) for span, text in holes),
        finish_reason="stop" if cut != texts else completion.finish_reason,
        num_canvas_tokens=len(completion.token_ids),
        usage=completion.usage,
    )


def completion_answer(
    body: CompletionBody,
    drafts: Sequence[Draft],
    fillings: Sequence[Filling],
    *,
    answer_id: str,
    created: int,
) -> CompletionAnswer:
    """OpenAI's text_completion; the text of a choice is the text of its hole."""
    choices = [
        CompletionChoice(
            index=index,
            text=filling.holes[0].text,
            finish_reason=filling.finish_reason,
            diffusion=_choice_diffusion(body, draft, filling),
        )
        for index, (draft, filling) in enumerate(zip(drafts, fillings, strict=True))
    ]
    return CompletionAnswer(
        id=answer_id,
        created=created,
        model=body.model,
        choices=choices,
        usage=_usage(fillings, body.n),
    )


def infill_answer(
    body: InfillBody,
    drafts: Sequence[Draft],
    fillings: Sequence[Filling],
    *,
    answer_id: str,
    created: int,
) -> InfillAnswer:
    """The whole text of each choice, and its holes one by one."""
    choices = [
        InfillChoice(
            index=index,
            text=_whole_text(body.segments, filling),
            spans=[InfillSpan(id=h.id, text=h.text, tokens=h.num_tokens) for h in filling.holes],
            finish_reason=filling.finish_reason,
            diffusion=_choice_diffusion(body, draft, filling),
        )
        for index, (draft, filling) in enumerate(zip(drafts, fillings, strict=True))
    ]
    return InfillAnswer(
        id=answer_id,
        created=created,
        model=body.model,
        choices=choices,
        usage=_usage(fillings, body.n),
    )


def _fixed(prompt: Prompt) -> str | Fixed:
    return prompt if isinstance(prompt, str) else Fixed(prompt)


def _segment(segment: Segment) -> str | Hole:
    if segment.hole is not None:
        return Hole(segment.hole, segment.id, segment.priority)
    return segment.text or ""


def _drafts(
    body: GenerationBody,
    templates: Sequence[tuple[str | Fixed | Hole, ...]],
    answer_id: str,
    seed: int,
) -> list[Draft]:
    stop = tuple(body.stop or ())
    choices = [(template, choice) for template in templates for choice in range(body.n)]
    return [
        Draft(
            id=f"{answer_id}-{index}",
            segments=template,
            params=_params(body, derive(seed, choice)),
            stop=stop,
        )
        for index, (template, choice) in enumerate(choices)
    ]


def _params(body: GenerationBody, seed: int) -> SamplingParams:
    diffusion = body.diffusion.model_dump() | {"alg": body.diffusion.alg or "entropy"}
    drawing = body.model_dump(include={"temperature", "top_p", "top_k"})
    return SamplingParams(**diffusion, **drawing, seed=seed)


def _filled_hole(span: Span, text: str) -> FilledHole:
    return FilledHole(id=span.id, text=text, num_tokens=len(span.token_ids))


def _cut(text: str, stop: Sequence[str]) -> str:
    found = [at for at in (text.find(mark) for mark in stop) if at >= 0]
    return text[: min(found)] if found else text


def _whole_text(segments: Sequence[Segment], filling: Filling) -> str:
    holes = iter(filling.holes)
    return "".join(next(holes).text if s.text is None else s.text for s in segments)


def _choice_diffusion(body: GenerationBody, draft: Draft, filling: Filling) -> ChoiceDiffusion:
    params = asdict(draft.params)
    seed = params.pop("seed")
    if draft.params.grow_to is None:
        params["steps"] = filling.usage.steps
    if draft.params.order != "confidence":
        params["alg"] = None
    return ChoiceDiffusion(seed=seed or 0, resolved=Resolved(**params))


def _usage(fillings: Sequence[Filling], n: int) -> AnswerUsage:
    costs = [filling.usage for filling in fillings]
    prompt_tokens = sum(cost.prompt_tokens for cost in costs[::n])
    completion_tokens = sum(cost.completion_tokens for cost in costs)
    forward_passes = sum(cost.forward_passes for cost in costs)
    return AnswerUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        diffusion=UsageDiffusion(
            steps=sum(cost.steps for cost in costs),
            forward_passes=forward_passes,
            token_forwards=sum(cost.token_forwards for cost in costs),
            canvas_tokens=sum(filling.num_canvas_tokens for filling in fillings),
            tokens_per_forward=round(completion_tokens / max(1, forward_passes), 3),
            forced_commits=sum(cost.forced_commits for cost in costs),
            approximation=next((c.approximation for c in costs if c.approximation), None),
            bit_exact=all(cost.bit_exact for cost in costs),
        ),
    )
