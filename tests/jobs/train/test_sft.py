"""Rows of Parquet: what may be masked, how a response ends, what is refused or left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dream.errors import InvalidRequest
from dream.model.tokenizer import Tokenizer, write_byte_tokenizer
from jobs.common.errors import JobError, Refused
from jobs.train.model import prepare
from jobs.train.sft import EncodedRow, encode, layout_of, noisy_row
from jobs.train.store import build_store
from tests.jobs.train.trainrun import spec_of

EOS = 256
CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(folder)
    return Tokenizer.from_folder(folder)


def noise(row, seed=0, **changes):
    settings = {"slack": 0, "tail_weight": 0.1, "time_weight": "none", "cart_p": 0.3}
    return noisy_row(np.random.default_rng(seed), row, **{**settings, **changes})


def test_only_the_last_answer_of_a_chat_may_be_masked(tokenizer):
    token_ids, first = encode(tokenizer, "messages", {"messages": CHAT}, EOS)
    end = tokenizer.token_id("<|im_end|>")

    assert token_ids[:first] == tokenizer.encode_chat(CHAT[:-1])
    assert token_ids[first:] == [ord("2"), end, EOS]
    masked = np.any([noise(EncodedRow(token_ids, first), s).is_masked for s in range(50)], axis=0)
    assert masked.tolist() == [False] * first + [True] * 3


def test_a_prompt_is_given_and_its_response_may_be_masked(tokenizer):
    row = {"prompt": "2+2=", "response": "4"}

    assert encode(tokenizer, "response", row, EOS) == ([*b"2+2=4", EOS], 4)


def test_of_a_text_every_token_may_be_masked_the_first_and_the_end_too(tokenizer):
    row = encode(tokenizer, "text", {"text": "abc"}, EOS)

    assert row == ([*b"abc", EOS], 0)
    assert np.any([noise(row, seed).is_masked for seed in range(50)], axis=0).all()


def test_text_is_never_markup(tokenizer):
    row = encode(tokenizer, "text", {"text": "<|mask|>"}, EOS)

    assert row.token_ids == [*b"<|mask|>", EOS]


def test_the_first_end_weighs_like_any_token_and_the_slack_less():
    row = EncodedRow([7, 8, EOS], 1)

    for seed in range(20):
        noisy = noise(row, seed, slack=2, time_weight="none", tail_weight=0.25)

        assert noisy.token_ids.tolist() == [7, 8, EOS, EOS, EOS]
        expected = np.where(noisy.is_masked, [0, 1, 1, 0.25, 0.25], 0)
        assert noisy.weights.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("messages", {"messages": CHAT[:1]}, "a last turn of the assistant's"),
        ("messages", {"messages": None}, "a list of"),
        ("messages", {"messages": [{"role": "user", "content": None}]}, "a role and a content"),
        ("messages", {"messages": [{"role": "tool", "content": ""}, CHAT[1]]}, "one of system"),
        ("messages", {"messages": ["hi"]}, "messages='hi' is not valid: turns with a role"),
        ("messages", {"messages": [CHAT[0], 7]}, "messages=7 is not valid: turns with a role"),
        ("response", {"prompt": "a", "response": None}, "response=None"),
        ("text", {"text": 3}, "text=3"),
    ],
)
def test_a_row_that_is_no_example_is_named(tokenizer, layout, row, message):
    with pytest.raises(InvalidRequest, match=message):
        encode(tokenizer, layout, row, EOS)


def test_columns_tell_the_layout_and_a_choice_is_asked_for():
    assert layout_of(None, ["id", "response", "prompt"]) == "response"
    assert layout_of("text", ["text", "messages"]) == "text"
    for wanted, names in ((None, ["text", "messages"]), (None, ["id"]), ("text", ["prompt"])):
        with pytest.raises(Refused, match="rows"):
            layout_of(wanted, names)


@pytest.fixture
def data(tmp_path):
    """Three files of texts a, aa, aaa, ... in order."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        texts = ["a" * (1 + number * 4 + index) for index in range(4)]
        pq.write_table(pa.table({"text": texts}), folder / f"{number}.parquet")
    return folder


@pytest.mark.ray
def test_the_store_holds_every_row_that_fits_in_order(tmp_path, data, ray_local):
    parquet = {"parquet": str(data), "mix": None, "max_length": 11, "eos_slack": 2}
    spec = spec_of(tmp_path / "out", **parquet, on_long="drop")
    prepare(spec, tmp_path / "base")

    store = build_store(spec, tmp_path / "base", tmp_path / "tokens.arrow")

    assert (len(store), store.rows_dropped) == (8, 4)
    assert store.lengths_N.tolist() == list(range(2, 10))
    assert [len(store[row].token_ids) for row in range(8)] == list(range(2, 10))
    assert store[3] == ([97] * 4 + [EOS], 0)
    with pytest.raises(JobError, match="row 8 of the data: 10 tokens, and max_length leaves 9"):
        build_store(spec_of(**parquet), tmp_path / "base", tmp_path / "other.arrow")
