"""The example of docs/decoding.md runs, and shows what the page says of rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dream.conflicts import RULE_FIELDS
from dream.timetable import commit_counts

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_the_example_prints_true_equations(capsys):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)

    exec(compile(code, "docs/decoding.md", "exec"), {})

    lines = [line.rsplit(" ", 2)[1:] for line in capsys.readouterr().out.splitlines()]
    assert [passes for _, passes in lines] == ["1", "2", "2"]
    for text, _ in lines[1:]:
        assert eval(text.removeprefix("E:").replace("=", "==")), text


def test_every_rule_is_described_with_its_source():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGE.split("| source |")[1], re.M))

    assert {*RULE_FIELDS, "low_threshold"} <= rows.keys()
    assert all(re.search(r"arXiv \d{4}\.\d{5}|dInfer", rows[rule]) for rule in RULE_FIELDS)


def test_many_steps_fill_more_masks_at_once_as_the_page_says():
    rows = re.findall(r"^\| ([\d,]+)(?: to ([\d,]+))? \| ([\d, ]+) \| (\d) \|$", PAGE, re.M)
    assert len(rows) == 3
    for first, last, filled, passes in rows:
        counts = [int(count) for count in filled.split(", ")]
        for steps in {first, last or first}:
            told = commit_counts(4, int(steps.replace(",", "")), 1e-3)
            assert [count for _, count in told] == counts
            assert len(told) == int(passes)


@pytest.mark.parametrize("masks", [4, 8, 32, 256])
@pytest.mark.parametrize("steps", [256, 512, 1024, 2048])
@pytest.mark.parametrize("eps", [1e-3, 1e-4])
def test_the_last_step_takes_two_masks_and_one_more_for_each_one_of_eps_times_steps(
    masks, steps, eps
):
    *_, (_, last) = commit_counts(masks, steps, eps)

    assert last == int(2 + eps * steps)


@pytest.mark.parametrize(
    "title",
    [
        *("EOS and length", "Diverse samples", "Averaged history"),
        *("Log-probabilities", "Approximate modes"),
    ],
)
def test_other_pages_may_link_its_sections(title):
    assert f"\n## {title}\n" in PAGE
