"""Every member of the family loads, says what it is, and keeps its own special tokens apart."""

from __future__ import annotations

import json

import pytest

from dream import Engine, EngineConfig, Fixed, Hole, InvalidRequest, Request, Template
from dream.errors import LengthTokenRefused
from dream.model.tokenizer import Tokenizer
from dream.presets import with_preset
from tests.dream.family import BOS, EOS, IM_END, MASK, MEMBERS, NEXT, VOCAB, write_member
from tests.models import request

BY_ID = {member.hub_id: member for member in MEMBERS}


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory):
    engines: dict[str, Engine] = {}

    def make(hub_id: str) -> Engine:
        if hub_id not in engines:
            folder = write_member(BY_ID[hub_id], tmp_path_factory.mktemp("member"))
            engines[hub_id] = Engine.from_pretrained(folder, EngineConfig(max_model_len=64))
        return engines[hub_id]

    return make


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.hub_id)
def test_a_member_loads_says_what_it_is_and_fills_holes_by_its_preset(engine_of, member):
    engine = engine_of(member.hub_id)
    tokenizer = engine.tokenizer

    assert engine.preset.name == member.preset
    assert member.hub_id in engine.preset.hub_ids
    assert (engine.mask_token_id, engine.vocab_size) == (MASK, VOCAB)
    assert len(tokenizer) == NEXT + len(member.extra)
    assert (tokenizer.bos_token_id, tokenizer.token_id("<|im_end|>")) == (BOS, IM_END)

    params = with_preset(engine.preset, {"steps": 6})
    (done,) = engine.generate([request("a", [tokenizer.encode("def f("), 12], **params)])

    filled = done.token_ids[6:]
    assert not {MASK, *tokenizer.length_tokens, *range(len(tokenizer), VOCAB)} & set(filled)


def test_the_padding_of_diffucoder_ends_an_answer(engine_of):
    base, instruct = engine_of("apple/DiffuCoder-7B-Base"), engine_of("apple/DiffuCoder-7B-cpGRPO")

    assert base.eos_token_ids == {EOS}
    assert instruct.eos_token_ids == {EOS, NEXT}


def test_tokens_that_change_a_holes_length_are_refused_by_name(engine_of):
    engine = engine_of("Dream-org/DreamOn-v0-7B")
    template = Template([Fixed([65, NEXT]), Hole(4)])

    with pytest.raises(LengthTokenRefused) as refused:
        engine.add(Request(id="a", template=template, params=request("a", [4]).params))

    assert isinstance(refused.value, InvalidRequest)
    assert (refused.value.field, refused.value.value) == ("token_ids", NEXT)
    assert "<|expand|>" in str(refused.value)
    assert "unknown length" in str(refused.value)


def test_tokens_that_change_a_holes_length_are_never_filled_in(engine_of):
    engine = engine_of("Dream-org/DreamOn-v0-7B")
    head = engine._model.lm_head.weight
    row = head[NEXT].clone()
    head[NEXT] = 1e3 * head[:1000].abs().sum(0)
    try:
        (done,) = engine.generate([request("a", [[65], 8])])
    finally:
        head[NEXT] = row

    assert not {NEXT, NEXT + 1} & set(done.token_ids)


def test_the_official_loop_of_dreamon_is_not_the_parity_mode(tmp_path):
    folder = write_member(BY_ID["Dream-org/DreamOn-v0-7B"], tmp_path)

    with pytest.raises(LengthTokenRefused, match="parity"):
        Engine.from_pretrained(folder, EngineConfig(parity=True))


def test_a_renamed_folder_is_recognised_by_its_config_or_its_tokens(tmp_path):
    member = BY_ID["Dream-org/Dream-v0-Base-7B"]
    plain = write_member(member, tmp_path, "mine")
    dreamon = write_member(BY_ID["Dream-org/DreamOn-v0-7B"], tmp_path, "other")
    unnamed = Engine.from_pretrained(plain).preset

    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"_name_or_path": member.hub_id}))

    assert unnamed is None
    assert Engine.from_pretrained(plain).preset.name == "dream-v0-base"
    assert Engine.from_pretrained(dreamon).preset.name == "dreamon-v0"


def test_special_tokens_of_a_member_in_text_are_plain_characters(engine_of):
    tokenizer: Tokenizer = engine_of("Dream-org/DreamOn-v0-7B").tokenizer

    ids = tokenizer.encode("a<|expand|>b")

    assert NEXT not in ids
    assert tokenizer.decode(ids) == "a<|expand|>b"
