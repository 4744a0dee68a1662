"""The frontier: its numbers are the engine's, its twins are exact, and its files are written."""

from __future__ import annotations

import json

import pytest

from benchmarks.fast_dllm import fill_blocks
from benchmarks.frontier import Bench, is_applicable, measure, record
from benchmarks.frontier_report import Loss, Outcome, front, page
from benchmarks.frontier_settings import FAST_SETTINGS, SETTINGS, exact_twin
from dream import Fixed, Hole, Request, SamplingParams, Template
from jobs.evaluate.suites import SuiteOptions, build_suite
from jobs.tasks import countdown, equations
from tests.jobs.evaluate.pieces import pieces_of

BY_LABEL = {setting.label: setting for setting in (*SETTINGS, *FAST_SETTINGS)}
APPROXIMATE = [setting for setting in SETTINGS if exact_twin(setting) is not None]
ABOUT = {"date": "2026-11-21", "processor": "a laptop"}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench.of("embedded")


def suite_of(name, num=4):
    return build_suite(name, SuiteOptions(num=num))


def measured(bench, suite, *labels):
    return measure(bench, suite, [BY_LABEL[label] for label in labels])


def outcome(label, cost, quality, family="threshold", loss=None):
    return Outcome(
        suite="sudoku4",
        family=family,
        setting=label,
        params={},
        n=10,
        quality=quality,
        wilson_low=0.0,
        wilson_high=1.0,
        token_forwards=cost,
        forward_passes=2.0,
        tokens_per_forward=1.5,
        forced_commits=0.0,
        approximation=None,
        loss=loss,
    )


def test_numbers_of_a_setting_are_those_of_the_engine_by_hand(bench):
    suite, engine = suite_of("infill-eq"), bench.engine
    right = 0
    usages = []
    for question in suite.questions:
        pieces = [Hole(p) if isinstance(p, int) else p for p in pieces_of(question)]
        template = Template([p if isinstance(p, Hole) else Fixed(list(p.encode())) for p in pieces])
        params = SamplingParams(steps=None, threshold=0.9)
        done = engine.generate([Request(id="a", template=template, params=params)])[0]
        ids = [token for token in done.token_ids if token != 256]
        text = engine.tokenizer.decode(ids).removeprefix("E:")
        right += equations.is_correct(question.problem.input, text)
        usages.append(done.usage)

    (found,) = measured(bench, suite, "threshold 0.9")

    assert found.n == 4
    assert found.quality == right / 4
    assert found.token_forwards == sum(usage.token_forwards for usage in usages) / 4
    assert found.forward_passes == sum(usage.forward_passes for usage in usages) / 4
    assert found.forced_commits == sum(usage.forced_commits for usage in usages) / 4
    masks = sum(p for q in suite.questions for p in pieces_of(q) if isinstance(p, int))
    passes = sum(usage.forward_passes for usage in usages)
    assert found.tokens_per_forward == pytest.approx(masks / passes, abs=1e-3)


def test_numbers_of_fast_dllm_are_those_of_its_loop_by_hand(bench):
    suite = suite_of("countdown3-mini", 3)
    prompts = [list(pieces_of(question)[0].encode()) for question in suite.questions]
    shape = {"max_new_tokens": 18, "block_length": 6, "steps": 18}
    runs = [fill_blocks(bench.model, p, cache="dual", threshold=0.9, **shape) for p in prompts]
    answers = [run.token_ids[len(p) :] for run, p in zip(runs, prompts, strict=True)]
    texts = [bench.engine.tokenizer.decode(ids[: ids.index(256)]) for ids in answers]

    labels = ("threshold 0.9, block 6", "Fast-dLLM, dual, block 6", "Fast-dLLM, no cache")
    exact, dual, plain = measured(bench, suite, *labels)

    right = [
        countdown.is_correct(question.problem.input, text)
        for question, text in zip(suite.questions, texts, strict=True)
    ]
    assert dual.quality == pytest.approx(sum(right) / 3, abs=1e-4)
    assert dual.token_forwards == pytest.approx(sum(r.token_forwards for r in runs) / 3, abs=0.01)
    assert dual.loss.exact == exact.setting
    assert dual.loss.mean == pytest.approx(exact.quality - dual.quality, abs=2e-4)
    assert plain.loss is None
    assert plain.token_forwards == pytest.approx(32 * plain.forward_passes, abs=0.1)


@pytest.mark.parametrize(
    ("name", "block", "expected"),
    [("countdown3-mini", 6, True), ("countdown3-mini", 4, False), ("infill-eq", 6, False)],
)
def test_fast_dllm_answers_prompts_whose_hole_is_whole_blocks(bench, name, block, expected):
    setting = BY_LABEL[f"Fast-dLLM, dual, block {block}"]

    assert is_applicable(suite_of(name), setting) is expected
    if not expected:
        assert measure(bench, suite_of(name), [setting]) == []


def test_every_setting_is_valid_and_has_a_label_of_its_own():
    assert len(BY_LABEL) == len(SETTINGS) + len(FAST_SETTINGS)
    for setting in SETTINGS:
        SamplingParams(**{"steps": None, **setting.params})


def test_the_exact_twin_of_an_approximate_setting_differs_in_the_approximation_alone():
    assert {setting.family for setting in APPROXIMATE} == {
        "dual window",
        "prefix window",
        "suffix window",
    }
    for setting in APPROXIMATE:
        twin = exact_twin(setting)
        params = SamplingParams(steps=None, **setting.params)
        assert params.approximation is not None
        assert SamplingParams(steps=None, **twin.params).approximation is None
        assert twin.params.items() <= setting.params.items()
        assert SETTINGS.index(twin) < SETTINGS.index(setting)
    for setting in FAST_SETTINGS:
        has_cache = setting.cache is not None
        assert (exact_twin(setting) is not None) is has_cache


def test_the_front_is_what_nothing_beats_at_its_cost():
    rows = [
        outcome("slow and best", 9, 0.9),
        outcome("beaten", 4, 0.5),
        outcome("equal but dearer", 3, 0.6),
        outcome("worse at the same cost", 2, 0.5),
        outcome("cheap", 1, 0.2),
        outcome("middle", 2, 0.6),
    ]

    assert [found.setting for found in front(rows)] == ["cheap", "middle", "slow and best"]


def test_the_page_has_the_front_in_bold_and_losses_with_their_interval():
    loss = Loss(exact="threshold 0.9", mean=0.1, low=-0.05, high=0.2)
    rows = [outcome("threshold 0.9", 4, 0.5), outcome("dual", 4, 0.4, "dual window", loss)]

    text = page(ABOUT, rows)

    assert "## sudoku4, 10 questions" in text
    assert "| threshold | **threshold 0.9** | **0.500** | 0.000 to 1.000 | 4.0 |" in text
    assert "| dual window | dual | 0.400 |" in text
    assert "| 0.100 (-0.050 to 0.200) |" in text
    assert "- processor: a laptop" in text


def test_a_record_is_numbers_a_page_and_a_figure_that_repeats_to_the_byte(bench, tmp_path):
    labels = ("entropy 1", "threshold 0.9, block 4", "dual, block 4")
    outcomes = measured(bench, suite_of("infill-eq"), *labels)

    for folder in ("a", "b"):
        record(tmp_path / folder, tmp_path / folder / "figures", "small", outcomes, ABOUT)

    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f).rglob("*.*")} for f in "ab")
    assert first == second
    assert first.keys() == {
        "frontier_small_202611.json",
        "frontier_small_202611.md",
        "frontier_small.svg",
        "frontier_small.png",
    }
    rows = json.loads(first["frontier_small_202611.json"])["rows"]
    assert [row["setting"] for row in rows] == list(labels)
    assert rows[2]["loss"]["exact"] == "threshold 0.9, block 4"
    assert first["frontier_small.png"].startswith(b"\x89PNG")
