"""The task mix of the embedded checkpoint: its task variants, their shares, and noisy rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.tasks import countdown, equations, lists, prose, sudoku
from jobs.tasks.base import EOS, MASK, Sample
from jobs.train.objective import TimeWeight, draw_mask, token_weights

__all__ = ["TAIL_WEIGHT", "TASK_VARIANTS", "NoisyRow", "TaskVariant", "first_size"]
__all__ += ["noisy_rows", "rows_sha256", "shares"]

TAIL_WEIGHT = 0.1
"""Weight of the end-of-text tokens after the first of a run: enough that long holes still end."""

UPDATES_OF_DIGEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVariant:
    """One way a task is written as text.

    `holds_out` tells from the text as the model sees it, masks as `_`, whether it is a problem
    of the test split; such a row is drawn again.
    """

    sample: Callable[[np.random.Generator], Sample]
    holds_out: Callable[[str], bool]
    time_weight: TimeWeight


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyRow:
    """A training row with its noise: token ids, which are masked, what each weighs; all [L]."""

    token_ids: NDArray[np.int64]
    is_masked: NDArray[np.bool_]
    weights: NDArray[np.float32]


TASK_VARIANTS: dict[str, TaskVariant] = {
    "sudoku": TaskVariant(
        sample=sudoku.sample_in_place, holds_out=sudoku.holds_out, time_weight="none"
    ),
    "sudoku-answer": TaskVariant(
        sample=sudoku.sample_answer, holds_out=sudoku.holds_out, time_weight="none"
    ),
    "countdown": TaskVariant(
        sample=countdown.mini_sample, holds_out=countdown.holds_out, time_weight="none"
    ),
    "equation": TaskVariant(
        sample=equations.sample, holds_out=equations.holds_out, time_weight="linear"
    ),
    "lists": TaskVariant(sample=lists.sample, holds_out=lists.holds_out, time_weight="none"),
    "prose": TaskVariant(sample=prose.sample, holds_out=prose.holds_out, time_weight="linear"),
    "prose-long": TaskVariant(
        sample=prose.sample_long, holds_out=prose.holds_out, time_weight="linear"
    ),
}


def noisy_rows(
    variant: TaskVariant,
    rng: np.random.Generator,
    num: int,
    *,
    eos: int,
    cart_p: float,
    tail_weight: float = TAIL_WEIGHT,
) -> list[NoisyRow]:
    """`num` rows of a task variant, all as long as the first drawn: one dense block of a batch.

    Ids of ASCII bytes are the bytes themselves.
    Of a run of end-of-text tokens the first weighs like any token, the others `tail_weight` of it.
    """
    rows: list[NoisyRow] = []
    length = len(variant.sample(rng).text)
    while len(rows) < num:
        sample = variant.sample(rng)
        if len(sample.text) != length:
            continue
        maskable = np.frombuffer(sample.maskable.encode(), np.uint8) == ord("#")
        is_masked, t = draw_mask(rng, maskable)
        text = np.frombuffer(sample.text.encode(), np.uint8)
        visible = np.where(is_masked, np.uint8(ord(MASK)), text).tobytes().decode()
        if variant.holds_out(visible):
            continue
        weights = token_weights(variant.time_weight, is_masked, t, cart_p=cart_p)
        is_end = text == ord(EOS)
        is_tail = is_end & np.concatenate([[False], is_end[:-1]])
        rows.append(
            NoisyRow(
                token_ids=np.where(is_end, eos, text.astype(np.int64)),
                is_masked=is_masked,
                weights=np.where(is_tail, tail_weight * weights, weights),
            )
        )
    return rows


def rows_sha256(mix: Mapping[str, float], batch_size: int, seed: int) -> str:
    """Digest of what the first batches show: their tokens, and which of them are masked.

    It says whether this code draws the rows that a checkpoint was trained on.
    """
    digest = hashlib.sha256()
    for update in range(UPDATES_OF_DIGEST):
        for index, (name, num) in enumerate(shares(mix, batch_size).items()):
            rng = np.random.default_rng([seed, update, index])
            for row in noisy_rows(TASK_VARIANTS[name], rng, num, eos=ord(EOS), cart_p=1.0):
                digest.update(row.token_ids.tobytes() + row.is_masked.tobytes())
    return digest.hexdigest()


def shares(mix: Mapping[str, float], rows: int) -> dict[str, int]:
    """How many of `rows` each task variant gets: in proportion, by largest remainder."""
    total = sum(mix.values())
    exact = {name: rows * share / total for name, share in mix.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name]):
        if sum(counts.values()) < rows:
            counts[name] += 1
    return counts


def first_size(mix: Mapping[str, float], variant: str, above: int) -> int:
    """The smallest number of rows above `above` of which the task variant gets one."""
    enough = math.ceil(sum(mix.values()) / mix[variant]) + 1
    return next(rows for rows in range(above + 1, above + enough + 1) if shares(mix, rows)[variant])
