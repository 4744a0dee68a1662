"""The example of docs/decoding.md runs, and shows what the page says of rules."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dream import SamplingParams
from dream.conflicts import RULE_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_the_example_prints_true_equations(capsys):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)

    exec(compile(code, "docs/decoding.md", "exec"), {})

    lines = [line.rsplit(" ", 2)[1:] for line in capsys.readouterr().out.splitlines()]
    assert [passes for _, passes in lines] == ["1", "2", "2"]
    for text, _ in lines[1:]:
        assert eval(text.removeprefix("E:").replace("=", "==")), text


def test_every_rule_and_field_of_sampling_is_on_the_page():
    told = set(re.findall(r"`(\w+)`", PAGE))

    assert set(RULE_FIELDS) <= told
    assert {field.name for field in fields(SamplingParams)} <= told | {"early_exit"}


@pytest.mark.parametrize(
    "title", ["EOS and length", "Diverse samples", "Averaged history", "Approximate modes"]
)
def test_other_pages_may_link_its_sections(title):
    assert f"\n## {title}\n" in PAGE
