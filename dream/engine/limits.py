"""What an engine can take; a request that could not run to its end is refused beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dream.errors import ContextLengthExceeded, InvalidRequest, LengthTokenRefused
from dream.growth import largest_length
from dream.request import Request
from dream.template import Fixed, Template

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest canvas, the largest one with a `window` or `history`, and the vocabulary size.

    max_num_batched_tokens: of one step. length_tokens: names of the ids that would change the
    length of a hole.
    """

    max_model_len: int
    max_cache_tokens: int
    vocab_size: int
    max_num_batched_tokens: int
    length_tokens: Mapping[int, str] = field(default_factory=dict)

    def check(self, request: Request) -> None:
        """InvalidRequest for what does not fit, now or once it has grown."""
        self.check_template(request.template)
        longest, params = largest_length(request), request.params
        if longest > self.max_model_len:
            allowed = f"at most {(params.grow_to or 0) - (longest - self.max_model_len)}"
            allowed += f", so that the context of {self.max_model_len} tokens holds the rest"
            raise ContextLengthExceeded("grow_to", params.grow_to, allowed)
        if params.keeps_state and longest > self.max_cache_tokens:
            field = "history" if params.window is None else "window"
            allowed = f"for canvases of at most max_cache_tokens={self.max_cache_tokens} tokens"
            raise InvalidRequest(field, getattr(params, field), allowed)

    def check_template(self, template: Template) -> None:
        """InvalidRequest for a canvas that is too long, and for ids that do not exist."""
        length = template.num_tokens
        if length > self.max_model_len:
            raise _too_long(template, self.max_model_len)
        for segment in template.segments:
            if isinstance(segment, Fixed) and segment.token_ids:
                highest = max(segment.token_ids)
                if highest >= self.vocab_size:
                    raise InvalidRequest("token_ids", highest, f"ids below {self.vocab_size}")
                self._check_length_tokens(segment)

    def _check_length_tokens(self, given: Fixed) -> None:
        for token_id in self.length_tokens.keys() & set(given.token_ids):
            name = self.length_tokens[token_id]
            allowed = f"text without {name}, as holes of unknown length are not served yet"
            raise LengthTokenRefused("token_ids", token_id, allowed)


def _too_long(template: Template, most: int) -> ContextLengthExceeded:
    """Of the holes if what is given fits without them, or else of the whole template."""
    given = template.num_tokens - template.num_masked
    field, allowed = "template", f"at most {most} tokens, given and to fill together"
    if given < most:
        field, allowed = "num_tokens", f"at most {most - given} tokens to fill beside {given} given"
    return ContextLengthExceeded(field, f"{template.num_tokens} tokens", allowed)
