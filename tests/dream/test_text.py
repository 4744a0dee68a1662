"""Text with holes: cut at masks, joined again, bounded before it is encoded."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream import Fixed, Hole, InvalidRequest
from dream.errors import ContextLengthExceeded
from dream.text import TextTemplate

MASK = "<|mask|>"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.one_of(texts.filter(lambda t: MASK not in t), st.integers(1, 4)), max_size=6))
def test_masked_text_holds_its_own_holes_and_text(parts):
    text = "".join(part if isinstance(part, str) else MASK * part for part in parts)
    template = TextTemplate.from_masked_text(text, MASK)

    filled = [MASK * hole.num_tokens for hole in template.holes]

    assert template.join(filled) == text
    assert template.num_masked == text.count(MASK)


def test_masked_text_needs_a_mask():
    with pytest.raises(InvalidRequest, match="mask_token"):
        TextTemplate.from_masked_text("abc", "")


def test_pieces_keep_ids_priorities_and_token_ids():
    hole = Hole(2, "middle", priority=3)

    template = TextTemplate(["", "ab", hole, Fixed([7])]).encode(lambda text: list(text.encode()))

    assert list(template.segments) == [Fixed([97, 98]), hole, Fixed([7])]


@given(st.lists(st.one_of(texts, st.integers(1, 9).map(Hole)), min_size=1, max_size=5))
def test_a_template_that_fits_is_never_refused_by_its_bytes(pieces):
    template = TextTemplate([*pieces, Hole(1)])

    def encode(text: str) -> list[int]:
        return list(unicodedata.normalize("NFC", text).encode())

    template.check_length(template.encode(encode).num_tokens, max_token_bytes=1)


def test_text_that_nfc_makes_much_shorter_is_not_refused():
    text = "\u1fbe\u0308\u0301" * 128  # 7 bytes become the 2 of U+0390

    TextTemplate([text]).check_length(len(unicodedata.normalize("NFC", text).encode()), 1)


def test_a_template_that_cannot_fit_is_refused_before_it_is_encoded():
    with pytest.raises(ContextLengthExceeded, match="at most 100 tokens"):
        TextTemplate(["x" * 1051, Hole(1)]).check_length(100, max_token_bytes=3)
    with pytest.raises(ContextLengthExceeded):
        TextTemplate([Fixed([1] * 60), Fixed([1] * 41)]).check_length(100, max_token_bytes=3)


def test_too_many_masks_are_told_from_too_much_text():
    for pieces, field in ((["x" * 1051, Hole(101)], "template"), (["x", Hole(101)], "num_tokens")):
        with pytest.raises(ContextLengthExceeded) as error:
            TextTemplate(pieces).check_length(100, max_token_bytes=3)
        assert error.value.field == field
