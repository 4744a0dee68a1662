"""Short template prose and JSON whose fields depend on each other, so that a hole can be checked.

Every sentence is one of a few thousand; a filled text is right if it is one of them and keeps
what was given. A run of k masks stands for at most k characters, the rest of it end-of-text.

No field comes first: the first two tokens of a canvas are read from the same row (Dream's shift),
so a hole needs a given token before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from jobs.tasks.base import EOS, MASK, Keyed, Problem, Sample, draw_distinct, is_held_out

__all__ = ["draw", "holds_out", "is_correct", "sample", "sample_long", "sentences", "widened"]

_NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Ida", "Leo", "Mia", "Noah", "Zoe")
_WEATHER = {
    "rainy": "an umbrella",
    "sunny": "a hat",
    "cold": "a coat",
    "windy": "a kite",
    "snowy": "a sled",
    "dark": "a lamp",
}
_PLACES = {
    "library": "read a book",
    "bakery": "buy bread",
    "station": "catch a train",
    "pool": "swim",
    "cinema": "see a film",
    "bank": "get money",
    "garden": "plant a tree",
}
_CITIES = {
    "Oslo": "Norway",
    "Rome": "Italy",
    "Paris": "France",
    "Tokyo": "Japan",
    "Cairo": "Egypt",
    "Lima": "Peru",
    "Delhi": "India",
    "Madrid": "Spain",
}
_FRUITS = ("apples", "pears", "plums", "figs")
_DIGITS = range(1, 10)

SLACK = 6
"""Most end-of-text tokens of a hole that is longer than what belongs in it."""

LONG_SLACK = 8
"""The same, of texts whose holes are all drawn too long."""


class Sentence(NamedTuple):
    """A text in pieces: even ones are the template's, odd ones are its fields."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole sentence."""
        return "".join(self.pieces)


@cache
def sentences() -> tuple[Sentence, ...]:
    """Every sentence, template after template."""
    return tuple(Sentence(pieces) for pieces in _all_pieces())


def draw(rng: np.random.Generator, num: int, *, held_out: bool = True) -> list[Problem]:
    """`num` distinct texts of one split, with one or more whole fields blank; buckets by kind."""

    def attempt(_: int) -> Keyed | None:
        sentence = _choose(rng)
        hidden = _choose_fields(rng, sentence)
        text = "".join(
            MASK * len(piece) if index in hidden else piece
            for index, piece in enumerate(sentence.pieces)
        )
        if is_held_out(_key(text)) != held_out:
            return None
        kind = "JSON" if text.startswith("{") else "prose"
        return Keyed(text, Problem(input=text, reference=sentence.text, bucket=kind))

    return draw_distinct(num, attempt, what="prose and JSON")


def widened(problem: Problem, rng: np.random.Generator, slack: int) -> Problem:
    """The same problem, each of its holes 0 to `slack` characters longer than what belongs in it.

    It stays in its split: the length of a hole is no part of what a problem asks.
    """
    pieces = re.split(f"({MASK}+)", problem.input)
    text = "".join(
        piece + MASK * int(rng.integers(slack + 1)) if piece.startswith(MASK) else piece
        for piece in pieces
    )
    return replace(problem, input=text)


def is_correct(problem_input: str, answer: str) -> bool:
    """Whether the answer is a sentence and keeps the given text."""
    pattern = "".join(
        f".{{0,{len(part)}}}" if part.startswith(MASK) else re.escape(part)
        for part in re.split(f"({MASK}+)", problem_input)
    )
    return answer in _texts() and re.fullmatch(pattern, answer) is not None


def holds_out(visible: str) -> bool:
    """Whether the visible text is a held-out problem."""
    return is_held_out(_key(visible))


def sample(rng: np.random.Generator) -> Sample:
    """A sentence: half the time any byte but the first may be masked, else whole fields.

    Half of those have slack.
    """
    sentence = _choose(rng)
    if rng.random() < 0.5:
        return Sample(sentence.text, " " + "#" * (len(sentence.text) - 1))
    hidden = _choose_fields(rng, sentence)
    return _with_holes(rng, sentence, hidden, SLACK if rng.random() < 0.5 else 0)


def sample_long(rng: np.random.Generator) -> Sample:
    """A sentence with whole fields masked, each hole 0 to `LONG_SLACK` bytes too long."""
    sentence = _choose(rng)
    return _with_holes(rng, sentence, _choose_fields(rng, sentence), LONG_SLACK)


def _all_pieces() -> Iterator[tuple[str, ...]]:
    for weather, city, name in product(_WEATHER, _CITIES, _NAMES):
        yield ("It was ", weather, " in ", city, ", so ", name, " took ", _WEATHER[weather], ".")
    for name, place in product(_NAMES, _PLACES):
        yield ("Today ", name, " went to the ", place, " to ", _PLACES[place], ".")
    for name, fruit, some, more in product(_NAMES, _FRUITS, _DIGITS, _DIGITS):
        total = str(some + more)
        yield (
            "First ",
            name,
            " had ",
            str(some),
            " ",
            fruit,
            ", got ",
            str(more),
            " more: ",
            total,
            ".",
        )
    for name, city in product(_NAMES, _CITIES):
        yield ('{"name":"', name, '","city":"', city, '","country":"', _CITIES[city], '"}')
    for fruit, count, price in product(_FRUITS, _DIGITS, _DIGITS):
        total = str(count * price)
        head = ('{"item":"', fruit, '","count":', str(count), ',"price":')
        yield (*head, str(price), ',"total":', total, "}")


@cache
def _texts() -> frozenset[str]:
    return frozenset(sentence.text for sentence in sentences())


@cache
def _templates() -> dict[str, list[Sentence]]:
    """Sentences by their first and second fixed piece, so that each template is equally likely."""
    groups: dict[str, list[Sentence]] = {}
    for sentence in sentences():
        groups.setdefault(sentence.pieces[0] + sentence.pieces[2], []).append(sentence)
    return groups


def _choose(rng: np.random.Generator) -> Sentence:
    groups = list(_templates().values())
    group = groups[int(rng.integers(len(groups)))]
    return group[int(rng.integers(len(group)))]


def _choose_fields(rng: np.random.Generator, sentence: Sentence) -> set[int]:
    fields = list(range(1, len(sentence.pieces), 2))
    num = int(rng.integers(1, len(fields) + 1))
    return {int(index) for index in rng.permutation(fields)[:num]}


def _with_holes(
    rng: np.random.Generator, sentence: Sentence, hidden: set[int], slack: int
) -> Sample:
    """The sentence with `hidden` masked, each followed by 0 to `slack` end-of-text tokens."""
    text, maskable = "", ""
    for index, piece in enumerate(sentence.pieces):
        if index in hidden:
            piece += EOS * int(rng.integers(0, slack + 1))
        text += piece
        maskable += ("#" if index in hidden else " ") * len(piece)
    return Sample(text, maskable)


def _key(text: str) -> str:
    """Canonical text: how long a hole is, or how far its end-of-text runs, is not what it asks."""
    return "prose " + re.sub(f"{MASK}+", MASK, text.replace(EOS, ""))
