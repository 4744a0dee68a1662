"""What dream refuses, with the paths and in the words of the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from deployments.errors import ApiError
from deployments.messages import CanvasRequest, ModelCard, Refusal
from deployments.requests import OPENAI_NAMED, Diffusion
from dream.errors import InvalidRequest

__all__ = ["check_cost", "check_special", "from_refusal", "refusing"]

_DIFFUSION_FIELDS = frozenset(Diffusion.model_fields)
_JSON_WORDS: Mapping[str, str] = {"None": "null", "True": "true", "False": "false"}


@contextmanager
def refusing(template_param: str) -> Iterator[None]:
    """What dream refuses is a 400 too, although every field by itself was within its bounds.

    template_param: the field of the request that has the given text.
    """
    try:
        yield
    except InvalidRequest as invalid:
        param = _param(invalid.field, template_param)
        raise ApiError("invalid_value", _in_json(invalid.allowed), param=param) from None


def from_refusal(refusal: Refusal, template_param: str) -> ApiError:
    """A replica's refusal; where prompt and hole share too small a context, both are named."""
    param, message = _param(refusal.field, template_param), _in_json(refusal.message)
    has_one_hole = template_param != "segments" and param in ("max_tokens", template_param)
    if refusal.code == "context_length_exceeded" and has_one_hole:
        message += f" ({template_param} and max_tokens share the context)"
    return ApiError(refusal.code, message, param=param, retry_after_s=refusal.retry_after_s)


def check_special(messages: Sequence[CanvasRequest], card: ModelCard, param: str) -> None:
    """A chat needs tokens that not every checkpoint has."""
    wanted = {name for message in messages for name in message.stop_tokens}
    if not wanted <= set(card.special_tokens):
        raise ApiError("unsupported_parameter", "this model has no chat template", param=param)


def check_cost(messages: Sequence[CanvasRequest], card: ModelCard, most: int) -> None:
    """Refuses before any queue what its holes alone make too dear; the replica knows the rest.

    It also says which field is too long, where one is.
    """
    holes = [message.template.num_masked for message in messages]
    if max(holes) > card.max_model_len:
        return
    pairs = zip(messages, holes, strict=True)
    cost = sum(num_masked * (message.params.steps or num_masked) for message, num_masked in pairs)
    if cost > most:
        asked = f"This asks for at least {cost} token-forwards"
        message = f"{asked} (canvas tokens x steps x choices); at most {most} are allowed."
        raise ApiError("compute_budget_exceeded", message)


def _param(field: str | None, template_param: str) -> str | None:
    """The path of dream's `field` in the request; a field that is no option is the template's."""
    if field == "num_tokens" and template_param != "segments":
        return "max_tokens"
    if field is None or field in OPENAI_NAMED:
        return field
    return f"diffusion.{field}" if field in _DIFFUSION_FIELDS else template_param


def _in_json(words: str) -> str:
    return re.sub(r"\b(None|True|False)\b", lambda found: _JSON_WORDS[found[0]], words)
