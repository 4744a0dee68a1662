"""Small models for tests: the golden checkpoint without a tokenizer, and a random byte model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from functools import cache
from pathlib import Path

import torch

from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.model.loader import load_model
from dream.sampling import WIDTHS, Drawn, RowParams, Score, sample

GOLDEN = Path(__file__).parent / "golden" / "data"
MASK, EOS, VOCAB = 501, 500, 512
"""Ids of golden checkpoint a."""


@cache
def golden_model(name: str = "ckpt_a"):
    """A golden checkpoint in float32 on the CPU; engines may share it, they never write to it."""
    return load_model(GOLDEN / name, dtype=torch.float32, device="cpu")


def golden_engine(**config) -> Engine:
    """A fresh engine over golden checkpoint a."""
    return Engine(golden_model(), None, EngineConfig(**config))


def ending_engine(**config) -> Engine:
    """The same, but every third id is an end of text, so that holes end early and often."""
    model = copy(golden_model())
    model.config = deepcopy(model.config)
    model.config.eos_token_id = list(range(0, VOCAB, 3))
    return Engine(model, None, EngineConfig(**config))


def whole_sample(logits: torch.Tensor, params: RowParams, score: Score) -> Drawn:
    """`sample`, and again over all logits for the rows that it left open, as the engine does."""
    drawn = sample(logits.clone(), params, score, WIDTHS[0])
    rows = drawn.is_open_N.nonzero()[:, 0]
    if not len(rows):
        return drawn
    whole = sample(logits[rows], params.take(rows), score, logits.shape[1])
    return Drawn(*(a.index_copy(0, rows, b) for a, b in zip(drawn, whole, strict=True)))


def request(name: str, shape: Sequence[int | Sequence[int]], **params) -> Request:
    """A request from its shape: an int is a hole of that size, a list is given tokens."""
    segments = [Hole(part) if isinstance(part, int) else Fixed(part) for part in shape]
    return Request(
        id=name,
        template=Template(segments),
        params=SamplingParams(**{"steps": None, **params}),
    )
