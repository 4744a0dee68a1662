"""The engine's edges: refusals, suppression, early exit, cost, equal bits in any batch."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from dream import Engine, EngineConfig, InvalidRequest
from dream.errors import ContextLengthExceeded, EngineError
from dream.model.attention import PackedLayout
from dream.model.leaves import compiled_leaves
from dream.model.loader import load_model
from tests.models import GOLDEN, MASK, VOCAB, golden_engine, golden_model, request


def test_a_template_without_holes_is_complete_at_once():
    done = golden_engine().generate([request("a", [[5, MASK, 6]])])[0]

    assert done.token_ids == [5, MASK, 6]
    assert (done.finish_reason, done.usage.forward_passes) == ("stop", 0)


def test_steps_none_is_one_step_for_each_masked_token():
    done = golden_engine().generate([request("a", [[5], 7], early_exit=False)])[0]

    assert done.usage.steps == 7
    assert done.usage.forward_passes == 6  # 7 of 7 gives 0, 1, ..., 1, 2


def test_cost_is_rows_times_forward_passes_and_the_head_runs_on_masked_rows_only():
    engine = golden_engine()
    done = engine.generate([request("a", [[5] * 10, 8], steps=4, early_exit=False)])[0]

    assert done.usage.token_forwards == 18 * 4 == engine.stats.token_forwards
    assert engine.stats.logit_rows == 8 + 7 + 5 + 3  # commits 1, 2, 2, 3


def test_origin_computes_logits_only_where_it_commits():
    engine = golden_engine()

    engine.generate([request("a", [[5] * 3, 20], steps=20, alg="origin", early_exit=False)])

    assert engine.stats.logit_rows == engine.stats.committed_tokens == 20


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ([[1] * 500, 13], ContextLengthExceeded, "513 tokens"),
        ([[VOCAB], 1], InvalidRequest, "ids below 512"),
    ],
)
def test_a_request_that_cannot_run_is_refused(shape, error, words):
    engine = golden_engine()

    with pytest.raises(error, match=words):
        engine.add(request("a", shape))

    assert not engine.has_work


def test_an_id_under_way_is_refused():
    engine = golden_engine()
    engine.add(request("a", [[1], 2]))

    with pytest.raises(InvalidRequest, match="under way"):
        engine.add(request("a", [[1], 2]))


def test_a_refused_request_of_generate_leaves_no_work_behind():
    engine = golden_engine()

    with pytest.raises(InvalidRequest):
        engine.generate([request("a", [[1], 2]), request("b", [[VOCAB], 2])])

    assert not engine.has_work
    assert engine.collect() == []


@contextmanager
def changed(tensor: torch.Tensor):
    """The shared golden weights may be written to inside; they are restored after."""
    saved = tensor.clone()
    try:
        yield tensor
    finally:
        tensor.copy_(saved)


def test_the_mask_id_is_never_drawn_unless_parity_is_asked_for():
    """The mask takes over the head row of the token that would be drawn, doubled."""
    wanted = request("a", [[1, 2, 3], 6], steps=6, early_exit=False)
    favourite = golden_engine().generate([wanted])[0].token_ids[3]
    with changed(golden_model().lm_head.weight) as head:
        head[MASK] = 2 * head[favourite]

        free = golden_engine(parity=True).generate([wanted])[0]
        served = golden_engine().generate([wanted])[0]

    assert MASK in free.token_ids
    assert MASK not in served.token_ids


def test_ids_without_a_token_are_never_drawn():
    engine = Engine.from_pretrained("embedded")
    known = len(engine.tokenizer)
    assert known < engine.vocab_size

    done = engine.generate(
        [request(str(s), [[83], 40], steps=4, temperature=50.0, seed=s) for s in range(8)]
    )

    drawn = {token for completion in done for token in completion.token_ids}
    assert len(drawn) > 100
    assert max(drawn) < known
    assert engine.mask_token_id not in drawn


def test_early_exit_stops_when_nothing_visible_can_change():
    """The first token to be drawn from the left is an end of text, so the hole is settled."""
    wanted = request("a", [[1, 2, 3], 8], steps=8, order="left_to_right", early_exit=False)
    full = golden_engine().generate([wanted])[0]
    engine = golden_engine()
    engine._make = replace(engine._make, eos_ids=frozenset({full.token_ids[3]}))

    early = request("a", [[1, 2, 3], 8], steps=8, order="left_to_right")
    done = engine.generate([early])[0]

    assert (full.usage.forward_passes, done.usage.forward_passes) == (7, 1)
    assert done.spans[0].token_ids == []
    assert set(done.token_ids[3:]) == {full.token_ids[3]}
    assert done.finish_reason == "stop"


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 1.0}, {"top_p": 0.9}, {"top_k": 3, "temperature": 0.5}]
)
def test_numbers_that_are_not_finite_stop_the_engine_with_words(params):
    with changed(golden_model().model.norm.weight) as norm:
        norm.fill_(torch.nan)

        with pytest.raises(EngineError, match="not finite"):
            golden_engine().generate([request("a", [[1], 2], **params)])


@torch.inference_mode()
def test_a_sequence_has_the_same_bits_alone_and_in_any_pack():
    model = golden_model("ckpt_b")
    torch.manual_seed(3)
    sequences = [torch.randint(0, 500, (n,)) for n in (1, 5, 5, 5, 40, 70, 70)]
    packed = model(torch.cat(sequences), PackedLayout.of([len(s) for s in sequences], "cpu"))

    logits = model.logits(packed)

    ends = torch.tensor([len(s) for s in sequences]).cumsum(0)
    for sequence, end in zip(sequences, ends, strict=True):
        alone = model(sequence, PackedLayout.of([len(sequence)], "cpu"))
        assert torch.equal(alone, packed[end - len(sequence) : end])
        assert torch.equal(model.logits(alone[-1:]), logits[end - 1 : end])


def test_config_refuses_what_it_cannot_run():
    for bad in (
        {"dtype": "int4"},
        {"device": "toaster"},
        {"max_num_batched_tokens": 0},
        {"max_cache_tokens": -1},
        {"max_model_len": 1.5},
    ):
        with pytest.raises(InvalidRequest, match=next(iter(bad))):
            EngineConfig(**bad)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_on_a_machine_without_it_is_refused_with_words():
    with pytest.raises(InvalidRequest, match="no CUDA device"):
        Engine.from_pretrained("embedded", EngineConfig(device="cuda"))


def test_a_checkpoint_without_tokenizer_loads():
    assert Engine.from_pretrained(GOLDEN / "ckpt_a").tokenizer is None


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, False),
        ({"compile": True}, True),
        ({"device": "cuda:1"}, True),
        ({"device": "cuda", "compile": False}, False),
    ],
)
def test_rows_are_compiled_on_cuda_unless_said_otherwise(config, wanted):
    assert EngineConfig(**config).compile is wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_engine_gives_the_same_logits_up_to_rounding():
    """On a model of its own: compiling changes modules in place."""
    wanted = [request("a", [[1, 2, 3], 9]), request("b", [[4] * 5, 6, [1]])]
    model = load_model(GOLDEN / "ckpt_a", dtype=torch.float32, device="cpu")

    compiled = Engine(model, None, EngineConfig(compile=True)).generate(wanted)

    for found, plain in zip(compiled, golden_engine().generate(wanted), strict=True):
        assert found.usage == replace(plain.usage, bit_exact=False)
        assert found.token_ids == plain.token_ids
    assert all(leaf.is_fast for leaf in compiled_leaves())
