"""Training: what is masked, what is held out, and a run that learns and loads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dream import Engine
from dream.model.loader import weights_sha256
from dream.model.tokenizer import Tokenizer, write_byte_tokenizer
from jobs.errors import Refused
from jobs.tasks import sudoku
from jobs.train import TrainConfig, _forms, _loss, _new_model, train

TINY = TrainConfig(
    updates=60,
    batch_size=32,
    warmup=10,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    log_every=10,
)


@pytest.fixture
def special(tmp_path):
    return write_byte_tokenizer(tmp_path)


@pytest.fixture
def forms(tmp_path, special):
    return _forms(Tokenizer.from_folder(tmp_path), special["<|endoftext|>"])


def test_only_cells_or_answers_are_masked_and_no_held_out_puzzle_is_shown(forms, special):
    in_place, answer = (form(np.random.default_rng(0), 500) for form in forms)

    masked = in_place.token_ids[in_place.is_masked]
    assert ((masked >= ord("1")) & (masked <= ord("4"))).all()
    shown = torch.where(in_place.is_masked, ord("0"), in_place.token_ids).numpy()
    puzzles = cells(shown[:, 2:21])
    assert not (sudoku.is_held_out(puzzles) & puzzles.any(1)).any()
    assert not answer.is_masked[:, :22].any()
    prompts = cells(answer.token_ids[:, 2:21].numpy())
    assert not (sudoku.is_held_out(prompts) & prompts.any(1)).any()
    assert (answer.token_ids[:, -5:] == special["<|endoftext|>"]).all()


def cells(text_ids: np.ndarray) -> np.ndarray:
    return np.delete(text_ids, [4, 9, 14], axis=1) - ord("0")


def test_the_loss_reads_each_masked_position_one_row_earlier(forms, special):
    """The shift of training is the engine's: a model that copies row i to i + 1 has no loss."""
    model = _new_model(TINY, special)
    batch = forms[0](np.random.default_rng(1), 4)
    length = batch.token_ids.shape[1]
    answers = batch.token_ids.roll(-1, dims=1).flatten()
    model.forward = lambda ids, layout: torch.nn.functional.one_hot(answers, 272).float() * 50
    model.logits = lambda hidden: hidden

    loss = _loss(model, batch, special["<|mask|>"])

    assert length == 21
    assert loss.item() < 1e-6


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    (tmp_path / "model.safetensors").write_text("mine")

    with pytest.raises(Refused, match="not empty"):
        train(TINY, tmp_path, say=lambda line: None)

    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_a_run_learns_repeats_and_loads(tmp_path):
    for name in ("one", "two"):
        train(TINY, tmp_path / name, say=lambda line: None)

    card = json.loads((tmp_path / "one" / "card.json").read_text())
    losses = [entry["loss"] for entry in card["log"]]
    assert losses[-1] < losses[0] - 1
    assert weights_sha256(tmp_path / "one") == weights_sha256(tmp_path / "two")
    assert Engine.from_pretrained(tmp_path / "one").tokenizer is not None
