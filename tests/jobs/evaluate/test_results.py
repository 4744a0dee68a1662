"""Rows become samples, samples become results.json: scored once, in a shape that users know."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from dream import Hole
from dream.text import TextTemplate
from jobs.common.errors import JobError
from jobs.evaluate.config import EvalRecord, EvalSpec, Variant
from jobs.evaluate.curves import as_table, pictures
from jobs.evaluate.order import order_metrics
from jobs.evaluate.questions import suite_hash
from jobs.evaluate.results import VariantFacts, as_results, group
from jobs.evaluate.scoring import Sample, samples_as_parquet, score_row
from jobs.evaluate.suite import Question, Suite, filled
from jobs.tasks.base import Problem

START = datetime(2026, 1, 2, 3, tzinfo=UTC)
CONFIDENCE = Variant(alg="entropy", order="confidence")
RANDOM = Variant(alg="entropy", order="random")
SUITE = Suite(
    name="sums",
    version=3,
    questions=tuple(
        Question(
            problem=Problem(
                input=f"1+{n}", reference=f"1+{n}={n + 1}", bucket=["even", "odd"][n % 2]
            ),
            text=TextTemplate([f"1+{n}=", Hole(2)]),
        )
        for n in range(4)
    ),
    read_answer=filled,
    metrics={
        "acc": lambda problem, answer: eval(problem) == int(answer.split("=")[1]),
        "is_short": lambda problem, answer: len(answer) < 6,
    },
    config={"prompt_style": "native", "shots": 0, "num": 4},
)


def row_of(number, steps=2, text=None, **changed):
    """What a job has written for a question; `text` fills its hole."""
    question = SUITE.questions[number]
    values = {
        "suite": "sums",
        "steps_asked": str(steps),
        "question": number,
        "bucket": question.problem.bucket,
        "input": question.problem.input,
        "reference": question.problem.reference,
        "status": "ok",
        "error_message": None,
        "infilled": [{"span": "0", "text": text or str(number + 1)}],
        "steps": steps,
        "forward_passes": steps,
        "token_forwards": 6 * steps,
        "completion_tokens": 1,
        "mean_confidence": 0.5,
        "seed": number,
        "latency_ms": 500.0,
        "finished_at": START + timedelta(seconds=number),
        "commit_steps": [0, 1],
    }
    return values | changed


FAILED = {
    "status": "error",
    "error_message": "no",
    "infilled": None,
    **dict.fromkeys(("forward_passes", "token_forwards", "completion_tokens", "latency_ms")),
    **dict.fromkeys(("mean_confidence", "finished_at", "commit_steps")),
}


def samples_of(*variants):
    """Question 1 is wrong by the first variant, and 3 fails; by the others all are right."""
    first = [row_of(0), row_of(1, text="99"), row_of(2), row_of(3, **FAILED)]
    rows = {variant: [row_of(n) for n in range(4)] for variant in variants} | {variants[0]: first}
    return [score_row(row, variant, SUITE) for variant in variants for row in rows[variant]]


def results_of(*variants):
    return results_from(group(samples_of(*variants), [SUITE]), *variants)


def results_from(entries, *variants, departures=None):
    spec = EvalSpec(suite=["sums"], output="/out", model="embedded", steps="2")
    record = EvalRecord(
        created_at=12.5, spec=spec, identity={}, environment={"git_hash": "abc", "torch": "2"}
    )
    facts = [
        VariantFacts(
            variant=variant, fingerprint="f", weights_sha256="w", tokenizer_sha256="t", seconds=1.5
        )
        for variant in variants
    ]
    return as_results(entries, facts, record, departures)


def test_an_answer_is_read_and_scored_and_a_failed_row_is_wrong():
    samples = samples_of(CONFIDENCE)

    assert [sample.answer for sample in samples] == ["1+0=1", "1+1=99", "1+2=3", None]
    assert [sample.scores["acc"] for sample in samples] == [True, False, True, False]
    assert samples[3].scores == {"acc": False, "is_short": False}
    assert samples[0].order_metrics == order_metrics([0, 1])


def test_a_single_variant_gives_one_entry_with_its_score_and_cost():
    results = results_of(CONFIDENCE)

    assert list(results["results"]) == ["sums@2"]
    entry = results["results"]["sums@2"]
    assert entry == {
        "name": "sums@2",
        "alias": "sums@2",
        "sample_len": 4,
        "acc,none": 0.5,
        "acc_stderr,none": pytest.approx(0.288675),
        "is_short,none": 0.5,
        "is_short_stderr,none": pytest.approx(0.288675),
        "acc_wilson_low": pytest.approx(0.150039),
        "acc_wilson_high": pytest.approx(0.849961),
        "num_errors": 1,
        "steps": 2.0,
        "forward_passes": 2.0,
        "token_forwards": 12.0,
        "completion_tokens": 1.0,
        "tokens_per_forward": 1.0,
        "mean_confidence": 0.5,
        "tokens_per_second": pytest.approx(3 / 1.5),
        "ntp@1": 1.0,
        "ntp@2": None,
        "ntp@4": None,
        "fms@1": 1.0,
        "fms@2": 1.0,
        "fms@4": 1.0,
        "buckets": {
            name: {
                "n": 2,
                "acc": share,
                "wilson_low": pytest.approx(low, abs=1e-4),
                "wilson_high": pytest.approx(high, abs=1e-4),
                "forward_passes": 2.0,
                "token_forwards": 12.0,
            }
            for name, share, low, high in (("even", 1.0, 0.3424, 1), ("odd", 0.0, 0, 0.6576))
        },
    }


def test_the_file_has_the_keys_of_the_harness_and_is_json():
    results = json.loads(json.dumps(results_of(CONFIDENCE), allow_nan=False))

    from_harness = {"results", "group_subtasks", "configs", "versions", "n-shot", "config"}
    from_harness |= {"higher_is_better", "n-samples", "git_hash", "date", "task_hashes"}
    from_harness |= {"total_evaluation_time_seconds", "transformers_version"}
    assert set(results) == from_harness | {"differences", "environment"}
    assert results["versions"] == {"sums@2": 3}
    assert results["n-samples"] == {"sums@2": {"original": 4, "effective": 4}}
    assert results["task_hashes"] == {"sums@2": suite_hash(SUITE)}
    assert results["configs"]["sums@2"]["task"] == "sums"
    assert results["configs"]["sums@2"]["generation_kwargs"]["steps"] == "2"
    assert results["config"]["weights_sha256"] == "w"
    assert results["config"]["model_args"]["pretrained"] == "embedded"
    assert (results["date"], results["git_hash"]) == (12.5, "abc")
    assert results["differences"] == []


def test_the_table_of_the_harness_prints_them():
    utils = pytest.importorskip("lm_eval.utils")

    table = utils.make_table(results_of(CONFIDENCE, RANDOM))

    assert "sums@2:entropy-random" in table
    assert "0.5000|" in table


def test_entries_of_several_variants_say_which_and_are_compared_question_by_question():
    results = results_of(CONFIDENCE, RANDOM)

    assert list(results["results"]) == ["sums@2:entropy-confidence", "sums@2:entropy-random"]
    (gap,) = results["differences"]
    assert (gap["of"], gap["from"]) == ("sums@2:entropy-random", "sums@2:entropy-confidence")
    assert gap["mean"] == 0.5
    assert 0 <= gap["low"] <= 0.5 <= gap["high"] <= 1
    assert results["total_evaluation_time_seconds"] == "3.000"
    assert results_of(CONFIDENCE, RANDOM) == results


def test_samples_are_a_table_with_a_column_for_each_score():
    table = pq.read_table(io.BytesIO(samples_as_parquet(samples_of(CONFIDENCE))))

    assert table.column("acc").to_pylist() == [True, False, True, False]
    assert table.column("alg").to_pylist() == ["entropy"] * 4
    assert table.column("ntp@1").to_pylist() == [1.0, 1.0, 1.0, None]
    assert table.column("answer").to_pylist()[3] is None
    assert samples_as_parquet(samples_of(CONFIDENCE)) == samples_as_parquet(samples_of(CONFIDENCE))


def test_a_metric_that_is_called_like_a_column_is_refused():
    (sample, *_) = samples_of(CONFIDENCE)
    odd = Sample(
        variant=sample.variant, row=sample.row, answer="", scores={"steps": True}, order_metrics={}
    )

    with pytest.raises(JobError, match="'steps'"):
        samples_as_parquet([odd])


def test_the_table_and_the_plots_show_every_entry():
    entries = group(samples_of(CONFIDENCE, RANDOM), [SUITE])

    assert as_table(entries).row_count == 2
    plots = pictures(entries, "embedded")
    svg = {name: picture.svg.decode() for name, picture in plots.items()}
    assert "<!-- sums by embedded, n = 2 -->" in svg["quality_steps"]
    assert "<!-- sums by embedded, n = 4 -->" in svg["quality_cost"]
    for words in ("even", "odd", "entropy, confidence", "entropy, random"):
        assert f"<!-- {words} -->" in svg["quality_steps"]
    for words in ("sums", "2 steps", "entropy, random"):
        assert f"<!-- {words} -->" in svg["quality_cost"]


def test_an_entry_of_which_every_row_failed_has_no_score_and_no_point():
    failed = [score_row(row_of(n, **FAILED), CONFIDENCE, SUITE) for n in range(4)]
    entries = group([*failed, *samples_of(RANDOM)], [SUITE])

    results = results_from(entries, CONFIDENCE, RANDOM)

    assert [entry.is_measured() for entry in entries] == [False, True]
    scores = results["results"]["sums@2:entropy-confidence"]
    assert (scores["sample_len"], scores["num_errors"]) == (4, 4)
    for name in ("acc,none", "acc_wilson_low", "acc_wilson_high"):
        assert scores[name] is None
    assert scores["acc_stderr,none"] == "N/A"
    assert scores["buckets"]["even"]["n"] == 2
    assert scores["buckets"]["even"]["wilson_high"] is None
    assert results["differences"] == []
    cells = [list(column.cells) for column in as_table(entries).columns]
    assert [(row[0], row[1]) for row in cells[3:5]] == [("no row", "0.500"), ("", cells[4][1])]
    svg = pictures(entries, "embedded")["quality_cost"].svg.decode()
    assert "<!-- entropy, random -->" in svg
    assert "<!-- entropy, confidence -->" not in svg
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_table_of_the_harness_prints_an_entry_without_a_score():
    utils = pytest.importorskip("lm_eval.utils")
    entries = group([score_row(row_of(n, **FAILED), CONFIDENCE, SUITE) for n in range(4)], [SUITE])

    assert "sums@2" in utils.make_table(results_from(entries, CONFIDENCE))


def test_departures_from_a_preset_are_part_of_the_results():
    results = results_from(group(samples_of(CONFIDENCE), [SUITE]), CONFIDENCE, departures=["one"])

    assert results["config"]["departures"] == ["one"]
    assert results_of(CONFIDENCE)["config"]["departures"] is None


def test_an_evaluation_of_which_every_row_failed_has_empty_plots():
    rows = [row_of(n, **FAILED) for n in range(4)]
    entries = group([score_row(row, CONFIDENCE, SUITE) for row in rows], [SUITE])

    assert entries[0].num_errors == 4
    assert as_table(entries).row_count == 1
    assert pictures(entries, "embedded")["quality_cost"].png.startswith(b"\x89PNG")
