"""The example of docs/decoding.md runs, and shows what the page says of rules."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from dream import SamplingParams
from dream.params import RULE_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_the_example_prints_true_equations(capsys):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)

    exec(compile(code, "docs/decoding.md", "exec"), {})

    lines = [line.rsplit(" ", 2)[1:] for line in capsys.readouterr().out.splitlines()]
    assert [passes for _, passes in lines] == ["1", "2", "2"]
    for text, _ in lines[1:]:
        assert eval(text.removeprefix("E:").replace("=", "==")), text


def test_every_rule_and_field_it_names_exists():
    names = {field.name for field in fields(SamplingParams)}

    assert set(RULE_FIELDS) <= set(re.findall(r"`(\w+)`", PAGE))
    assert {"low_threshold", "min_commits", "block_length", "frontier", "order"} <= names
