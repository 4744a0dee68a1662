"""Growing canvases: a hole that ends without EOS is filled again with twice the room."""

from __future__ import annotations

from dataclasses import replace

from dream.request import Request
from dream.template import Hole, Template

__all__ = ["grown", "largest_length", "most_token_forwards"]


def grown(request: Request) -> Request | None:
    """The request with its last hole doubled, up to `grow_to`; None where it may not grow."""
    if request.params.grow_to is None:
        return None
    place = _last_hole(request.template)
    if place is None:
        return None
    hole = request.template.segments[place]
    assert isinstance(hole, Hole)
    size = min(2 * hole.num_tokens, request.params.grow_to)
    if size <= hole.num_tokens:
        return None
    priority = hole.priority
    if not isinstance(priority, int):
        priority = [*priority, *[priority[-1]] * (size - hole.num_tokens)]
    segments = list(request.template.segments)
    segments[place] = Hole(size, hole.id, priority)
    return replace(request, template=Template(segments))


def most_token_forwards(request: Request) -> int:
    """Tokens x forward passes of every attempt that a request may come to, at most."""
    cost, attempt = 0, request
    while True:
        cost += attempt.template.num_tokens * (attempt.params.steps or attempt.template.num_masked)
        larger = grown(attempt)
        if larger is None:
            return cost
        attempt = larger


def largest_length(request: Request) -> int:
    """Tokens of the largest canvas that a request may come to."""
    length, place = request.template.num_tokens, _last_hole(request.template)
    if place is None or request.params.grow_to is None:
        return length
    hole = request.template.segments[place]
    assert isinstance(hole, Hole)
    return length + max(0, request.params.grow_to - hole.num_tokens)


def _last_hole(template: Template) -> int | None:
    places = [n for n, segment in enumerate(template.segments) if isinstance(segment, Hole)]
    return places[-1] if places else None
