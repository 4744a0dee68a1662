"""Ids with a part of their own: those that end a text, and those that a request never gets."""

from __future__ import annotations

from dream.errors import LengthTokenRefused
from dream.model.config import DreamConfig
from dream.model.tokenizer import Tokenizer

__all__ = ["end_ids", "suppressed_ids"]


def end_ids(shape: DreamConfig, tokenizer: Tokenizer | None) -> frozenset[int]:
    """The EOS ids of the config, and the tokenizer's other tokens that end a text."""
    return shape.eos_token_ids | (frozenset() if tokenizer is None else tokenizer.end_token_ids)


def suppressed_ids(shape: DreamConfig, tokenizer: Tokenizer | None, *, parity: bool) -> list[int]:
    """The mask id, ids that change a hole's length or have no token; none in parity mode.

    LengthTokenRefused where parity is asked of a checkpoint whose official loop changes lengths.
    """
    lengths = {} if tokenizer is None else tokenizer.length_tokens
    if parity and lengths:
        names = " and ".join(lengths.values())
        allowed = f"false for a checkpoint with {names}: its official loop changes holes' lengths"
        raise LengthTokenRefused("parity", parity, allowed)
    if parity:
        return []
    known = shape.vocab_size if tokenizer is None else len(tokenizer)
    return sorted({shape.mask_token_id, *lengths, *range(known, shape.vocab_size)})
