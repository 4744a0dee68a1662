"""Presets are data: values are those of SamplingParams, and each says where it is from."""

from __future__ import annotations

import pytest

from dream.errors import InvalidRequest
from dream.options import options_of
from dream.params import SamplingParams
from dream.presets import (
    QUALITIES,
    find_preset,
    quality_of,
    read_presets,
    recognise,
    with_preset,
)

PRESETS = read_presets()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_has_known_values_and_a_source(preset):
    assert SamplingParams(steps=None, **preset.sampling)
    assert set(preset.sampling) <= set(options_of(SamplingParams))
    assert preset.about
    assert preset.hub_ids
    assert bool(preset.sampling) <= (preset.source != "none found")
    assert set(preset.quality) == set(QUALITIES)
    for quality in QUALITIES:
        values = {"steps": None} | with_preset(preset, quality_of(preset, quality))
        assert SamplingParams(**values)


def test_no_hub_id_belongs_to_two_presets():
    ids = [hub_id for preset in PRESETS.values() for hub_id in preset.hub_ids]

    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("Dream-org/Dream-v0-Instruct-7B", "dream-v0-instruct"),
        ("/models/dream-v0-instruct-7b", "dream-v0-instruct"),
        ("/hub/models--d3LLM--d3LLM_Dream/snapshots/0123", "d3llm-dream"),
        ("/hub/models--apple--DiffuCoder-7B-Base/snapshots/0123/", "diffucoder-base"),
        ("me/d3LLM-Dream", "d3llm-dream"),
        ("d3LLM/d3LLM_Dream_Coder", None),
        ("me/Dream-v0-Instruct-7B-sft", None),
        ("embedded", "embedded"),
        ("embedded-sft", None),
        ("", None),
    ],
)
def test_a_name_is_recognised_by_its_last_part_alone(name, preset):
    found = recognise([name], ())

    assert (found and found.name) == preset


def test_tokens_say_more_than_names_and_the_first_name_more_than_the_second():
    names = ["apple/DiffuCoder-7B-Base", "Dream-org/Dream-v0-Base-7B"]

    assert recognise(names, ()).name == "diffucoder-base"
    assert recognise(names, {"<|expand|>", "<|mask|>"}).name == "dreamon-v0"


def test_what_is_given_beats_the_preset():
    preset = find_preset("dream-v0-instruct")

    assert with_preset(preset, {"temperature": 0.5})["temperature"] == 0.5
    assert with_preset(preset, {"top_p": None})["top_p"] is None
    assert with_preset(None, {"steps": 4}) == {"steps": 4}


def test_a_given_commit_rule_replaces_that_of_the_preset():
    values = with_preset(find_preset("d3llm-dream"), {"steps": None, "threshold": 0.9})

    assert SamplingParams(**values).rule == "threshold"
    assert values["block_length"] == 32


def test_an_unknown_name_is_refused_with_those_there_are():
    assert find_preset("none") is None
    with pytest.raises(InvalidRequest, match=r"preset='best'.*none, d3llm-dream, diffucoder-base"):
        find_preset("best")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("sampling: {temprature: 1.0}", "temprature"),
        ("sampling: {temperature: -1.0}", "temperature"),
        ("sampling: {threshold: 0.9, factor: 1.0}", "factor"),
        ("sampling: {}\nsampler: 1", "sampler"),
    ],
)
def test_a_wrong_file_is_told_by_its_name_and_the_field(line, named, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"about: a\nhub_ids: [a/b]\nsource: s\n{line}\n")

    with pytest.raises(InvalidRequest, match=rf"mine.yaml: {named}"):
        read_presets(tmp_path)
