"""What tasks share: a problem, a training sample, and the split into seen and held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jobs.common.errors import Refused

__all__ = ["EOS", "MASK", "Keyed", "Problem", "Sample", "draw_distinct", "is_held_out"]

MASK = "_"
"""One masked token in the text of a task."""

EOS = "\0"
"""The end-of-text token in the text of a task."""

HELD_OUT_SHARE = 8
"""One problem of this many is never trained on."""

PATIENCE = 20_000
"""Draws without a new problem after which there are taken to be no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One instance of a task.

    `input` is its text in the task's data format, `reference` one right answer of perhaps many,
    and `bucket` the group in which results are reported.
    """

    input: str
    reference: str
    bucket: str


class Sample(NamedTuple):
    """A training row: ASCII text with `EOS`, and of equal length "#" where it may be masked."""

    text: str
    maskable: str


class Keyed(NamedTuple):
    """A problem and its canonical text: problems of one key are the same problem."""

    key: str
    problem: Problem


def draw_distinct(
    num: int, attempt: Callable[[int], Keyed | None], *, what: str, patience: int = PATIENCE
) -> list[Problem]:
    """`num` problems of different keys; refused when attempts stop giving new ones.

    An attempt is told how many problems there are, and gives None for one of the other split.
    """
    found: dict[str, Problem] = {}
    num_idle = 0
    while len(found) < num:
        drawn = attempt(len(found))
        if drawn is not None and drawn.key not in found:
            found[drawn.key] = drawn.problem
            num_idle = 0
            continue
        num_idle += 1
        if num_idle == patience:
            raise Refused(
                f"{num} different problems of {what} were asked for: {len(found)} were found, "
                f"and {patience:,} more draws gave no other"
            )
    return list(found.values())


def is_held_out(key: str) -> bool:
    """Whether a problem belongs to the test split: a hash of its canonical text alone."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_SHARE == 0
