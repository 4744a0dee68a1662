"""A preset names a published evaluation: what differs from it is asked for, refused or told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jobs.__main__ import main
from jobs.common.errors import Refused
from jobs.evaluate.config import load_eval_spec
from jobs.evaluate.departures import departures, refuse_without_data
from jobs.evaluate.presets import PRESETS, Published
from jobs.evaluate.suites import build_suites
from jobs.tasks import countdown_planning, sudoku

BASE = {"preset": "official-planning", "model": "embedded", "output": "/out"}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Files of the shape of the published ones, and an instruction that stands for theirs."""
    template = tmp_path / "instruction.txt"
    template.write_text("Reach it.\n")
    rng = np.random.default_rng(0)
    files = {
        "countdown4": countdown_planning.draw(rng, 20, count=4),
        "sudoku4": sudoku.draw(rng, 20, givens=10),
    }
    for name, problems in files.items():
        lines = [json.dumps({"input": p.input, "output": p.reference}) for p in problems]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    suites = PRESETS["official-planning"].suites
    (suite,) = build_suites(
        ["countdown4"], spec_of("countdown4", prompt_template=str(template), num=1).options()
    )
    sha256 = suite.config["template_sha256"]
    for name, bucket in (("countdown4", "4 numbers"), ("sudoku4", "10 givens")):
        monkeypatch.setitem(suites, name, Published(bucket, 12, sha256))
    return tmp_path


def spec_of(suite, **more):
    return load_eval_spec(BASE | {"suite": suite} | more)


def found(spec):
    return departures(spec, build_suites(spec.suite, spec.options()))


def files_of(folder, suite):
    return {
        "data": str(folder / f"{suite}.jsonl"),
        "prompt_template": str(folder / "instruction.txt"),
    }


@pytest.mark.parametrize("suite", ["countdown4", "sudoku4"])
def test_the_published_problems_and_instruction_are_no_departure(published, suite):
    spec = spec_of(suite, **files_of(published, suite))

    refuse_without_data(spec)
    assert found(spec) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"steps": 8}, "steps is 8, not 512"),
        ({"top_k": 3}, "top_k is 3, not 50"),
        ({"temperature": 0.5}, "temperature is 0.5, not 0.0"),
        ({"order": "random"}, "order is random, not confidence"),
        ({"alg": "origin,entropy"}, "alg is origin,entropy, not entropy"),
        ({"threshold": 0.9}, "threshold is 0.9, not None"),
        ({"max_new_tokens": 64}, "max_new_tokens is 64, not None"),
        ({"num": 5}, "countdown4: 5 of 4 numbers, not 12 of 4 numbers"),
    ],
)
def test_every_other_setting_is_told(published, more, words):
    assert found(spec_of("countdown4", **files_of(published, "countdown4") | more)) == [words]


def test_other_problems_and_another_instruction_are_told(published):
    own = spec_of("countdown4,sudoku4", draw="planning", num=2)
    template = files_of(published, "sudoku4")["prompt_template"]

    refuse_without_data(own)
    assert found(own) == [
        f"{name}: {what}"
        for name in ("countdown4", "sudoku4")
        for what in (
            "its problems were drawn here, not read from --data",
            "its instruction is not the published one (--prompt-template)",
        )
    ]
    assert len(found(spec_of("sudoku4", draw="planning", num=2, prompt_template=template))) == 1


def test_a_suite_of_the_preset_can_be_asked_in_another_style():
    native = spec_of("sudoku4", draw="planning", num=2, prompt_style="native", shots=None)

    assert "prompt_style is native, not few-shot" in found(native)


def test_without_a_preset_nothing_is_compared():
    spec = load_eval_spec({"suite": "countdown4", "model": "embedded", "output": "/o", "num": 1})

    refuse_without_data(spec)
    assert found(spec) is None


def test_a_preset_without_its_problems_is_refused_with_what_to_do(capsys, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--suite", "countdown4", "--preset", "official-planning", "-o", str(out),
              "--model", "embedded"])  # fmt: skip

    assert end.value.code == 2
    said = capsys.readouterr().err
    for words in ("needs --data", "--prompt-template", "--draw planning"):
        assert words in said
    assert not out.exists()
    with pytest.raises(Refused, match="needs --data"):
        refuse_without_data(spec_of("sudoku4", givens="10"))


def test_the_digests_of_the_published_instructions_are_none_of_ours():
    spec = spec_of("countdown3,countdown4,countdown5,sudoku4", draw="planning", num=1)
    suites = build_suites(spec.suite, spec.options())

    known = {
        published.template_sha256 for published in PRESETS["official-planning"].suites.values()
    }
    assert len(known) == 4
    assert not known & {suite.config["template_sha256"] for suite in suites}
