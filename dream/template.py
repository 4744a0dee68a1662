"""What is given and what is to be filled: a sequence of fixed tokens and holes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import SupportsIndex

from dream.errors import InvalidRequest

__all__ = ["MOST_PRIORITY", "Fixed", "Hole", "HoleRange", "Template"]

MOST_PRIORITY = 2**20
"""Largest size of a hole's priority."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Tokens that are given; they come back unchanged."""

    token_ids: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", tuple(_token_id(token) for token in self.token_ids))


@dataclass(frozen=True, slots=True)
class Hole:
    """`num_tokens` masked positions to fill; `id` names the span in the answer.

    priority: the lowest is filled first; one for the hole, or one for each of its positions.
    """

    num_tokens: int
    id: str | None = None
    priority: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.num_tokens, int) or isinstance(self.num_tokens, bool):
            raise InvalidRequest("num_tokens", self.num_tokens, "an integer >= 1")
        if self.num_tokens < 1:
            raise InvalidRequest("num_tokens", self.num_tokens, "a hole has at least one token")
        if isinstance(self.priority, Sequence) and not isinstance(self.priority, str | bytes):
            if len(self.priority) != self.num_tokens:
                allowed = f"one number for each of the {self.num_tokens} positions"
                raise InvalidRequest("priority", f"{len(self.priority)} numbers", allowed)
            object.__setattr__(self, "priority", tuple(map(_priority, self.priority)))
        else:
            object.__setattr__(self, "priority", _priority(self.priority))


@dataclass(frozen=True, slots=True)
class HoleRange:
    """Where a hole lies on the canvas: positions `start` to `end` (exclusive)."""

    id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Template:
    """A sequence of `Fixed` and `Hole`; a hole without an id is named by its index."""

    segments: Sequence[Fixed | Hole]

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        for segment in self.segments:
            if not isinstance(segment, Fixed | Hole):
                raise InvalidRequest("segments", segment, "each segment is a Fixed or a Hole")
        if self.num_tokens == 0:
            raise InvalidRequest("segments", self.segments, "a template has at least one token")
        seen: set[str] = set()
        for hole in self.holes:
            if hole.id in seen:
                raise InvalidRequest("id", hole.id, "hole ids are unique within a template")
            seen.add(hole.id)

    @property
    def num_tokens(self) -> int:
        """Length of the canvas."""
        return sum(_length(segment) for segment in self.segments)

    @property
    def num_masked(self) -> int:
        """How many positions are to be filled."""
        return sum(s.num_tokens for s in self.segments if isinstance(s, Hole))

    @property
    def priorities(self) -> tuple[int, ...]:
        """Priority of each position to be filled, in canvas order."""
        found: list[int] = []
        for segment in self.segments:
            if isinstance(segment, Hole):
                given = segment.priority
                found += [given] * segment.num_tokens if isinstance(given, int) else given
        return tuple(found)

    @property
    def holes(self) -> tuple[HoleRange, ...]:
        """Every hole with its canvas positions, in order."""
        ranges: list[HoleRange] = []
        position = 0
        for segment in self.segments:
            end = position + _length(segment)
            if isinstance(segment, Hole):
                name = str(len(ranges)) if segment.id is None else segment.id
                ranges.append(HoleRange(name, position, end))
            position = end
        return tuple(ranges)

    @classmethod
    def from_masked(cls, token_ids: Iterable[int], mask_id: int) -> Template:
        """Template in which every run of `mask_id` is one hole."""
        segments: list[Fixed | Hole] = []
        fixed: list[int] = []
        masks = 0
        for token in token_ids:
            if token == mask_id:
                if fixed:
                    segments.append(Fixed(fixed))
                    fixed = []
                masks += 1
                continue
            if masks:
                segments.append(Hole(masks))
                masks = 0
            fixed.append(token)
        if fixed:
            segments.append(Fixed(fixed))
        if masks:
            segments.append(Hole(masks))
        return cls(segments)


def _token_id(token: object) -> int:
    """A Python int >= 0 from any integer, numpy's too."""
    if type(token) is int and token >= 0:  # nearly all are, and the check below takes longer
        return token
    if isinstance(token, SupportsIndex) and not isinstance(token, bool):
        value = index(token)
        if value >= 0:
            return value
    raise InvalidRequest("token_ids", token, "token ids are integers >= 0")


def _priority(value: object) -> int:
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = index(value)
        if abs(number) <= MOST_PRIORITY:
            return number
    raise InvalidRequest("priority", value, f"an integer from -{MOST_PRIORITY} to {MOST_PRIORITY}")


def _length(segment: Fixed | Hole) -> int:
    return segment.num_tokens if isinstance(segment, Hole) else len(segment.token_ids)
