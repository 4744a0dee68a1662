"""The card of a checkpoint: every point has its cost, and the page is that of one checkpoint."""

from __future__ import annotations

import json

import pytest

from benchmarks.model_card import (
    END,
    EVALUATIONS,
    START,
    _write_card,
    parse,
    points_of,
    with_tables,
)
from dream.model.loader import EMBEDDED
from jobs.evaluate.config import load_eval_spec
from jobs.evaluate.suites import build_suites
from tests.jobs.evaluate.test_docs import settings_of

ABOUT = {"processor": "P", "cores": "2", "date": "2026-11-21"}


def share(n, acc, passes):
    return {
        "n": n,
        "acc": acc,
        "wilson_low": 0.0,
        "wilson_high": 1.0,
        "forward_passes": passes,
        "token_forwards": 20 * passes,
    }


def results(task, buckets, steps="4", *, order="random", metadata=None, **rules):
    whole = {"sample_len": 7, "acc,none": 0.5, "acc_wilson_low": 0.1, "acc_wilson_high": 0.9}
    sampling = {"order": order, "alg": "entropy", "temperature": 0.0, "steps": steps}
    sampling |= {"threshold": None, "entropy_bound": None} | rules
    scores = whole | {"forward_passes": 3.333, "token_forwards": 60.0, "buckets": buckets}
    config = {"task": task, "generation_kwargs": sampling, "metadata": metadata or {}}
    return {"results": {"a": scores}, "configs": {"a": config}}


def page_of(*points):
    return with_tables(f"a {START} before {END} b", {"about": {"x": ABOUT}, "points": points})


def test_every_bucket_is_a_point_with_its_own_cost():
    buckets = {"4 givens": share(3, 0.25, 4.004), "8 givens": share(4, 0.75, 2.0)}

    points = points_of(results("sudoku4", buckets))

    assert [(p["bucket"], p["n"], p["acc"]) for p in points] == [
        ("4 givens", 3, 0.25),
        ("8 givens", 4, 0.75),
    ]
    assert [(p["forward_passes"], p["token_forwards"]) for p in points] == [(4.0, 80.08), (2, 40)]


def test_a_suite_of_other_buckets_is_one_point():
    (point,) = points_of(results("lists", {"sort": share(7, 0.5, 1.0)}))

    assert (point["bucket"], point["n"], point["acc"]) == ("all", 7, 0.5)
    assert (point["forward_passes"], point["token_forwards"]) == (3.33, 60.0)


@pytest.mark.parametrize(
    ("metadata", "group"),
    [
        ({"draw": "every", "split": "test"}, "every held-out problem"),
        ({"draw": "every", "split": "train"}, "problems seen"),
        ({"draw": "plain", "slack": 4}, "holes 0 to 4 too long"),
        ({"draw": "plain", "slack": 0}, "all"),
    ],
)
def test_a_point_says_which_problems_were_asked(metadata, group):
    (point,) = points_of(results("lists", {}, metadata=metadata))

    assert point["bucket"] == group


def test_the_page_has_a_row_for_each_rule_and_says_how_many_and_where():
    kinds = ({}, {"threshold": 1.0}, {"entropy_bound": 0.1})
    points = [
        point
        for rules in kinds
        for point in points_of(results("lists", {}, "full", order="confidence", **rules))
    ]

    page = page_of(*points)

    assert "before" not in page
    assert "- P, 2 cores, 2026-11: x" in page
    assert "| lists | all | 7 | 0.500, 3.3 | 0.500, 3.3 | 0.500, 3.3 |" in page
    for order in ("confidence", "confidence, threshold 1", "confidence, entropy_bound 0.1"):
        assert f"| all | {order} | 7 | 0.500 (0.100 to 0.900) |" in page


def test_other_orders_and_few_steps_are_no_part_of_the_summary():
    page = page_of(*points_of(results("lists", {}, "4")), *points_of(results("lists", {}, "full")))

    assert "0.500, 3.3" not in page


def test_an_evaluation_measured_anew_takes_the_place_of_its_points(tmp_path):
    point = points_of(results("lists", {}))[0]
    old = {name: [point | {"evaluation": name, "n": 1}] for name in ("sudoku", "bound")}
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(EMBEDDED / name)
    (tmp_path / "card.json").write_text(json.dumps({"seed": 3}))

    _write_card(tmp_path, old, "-n 1")
    _write_card(tmp_path, {"sudoku": [point | {"evaluation": "sudoku"}]}, "-n 7")

    card = json.loads((tmp_path / "card.json").read_text())
    assert card["seed"] == 3
    assert [(p["evaluation"], p["n"]) for p in card["measured"]["points"]] == [
        ("sudoku", 7),
        ("bound", 1),
    ]
    commands = {name: about["command"] for name, about in card["measured"]["about"].items()}
    assert commands["sudoku"].endswith("-n 7 --only sudoku")
    assert commands["bound"].endswith("-n 1 --only bound")


@pytest.mark.parametrize(
    ("words", "page"),
    [([], True), (["--model", "out/m"], False), (["--model", "out/m", "--page"], True)],
)
def test_the_page_is_written_for_the_embedded_checkpoint_or_on_demand(words, page):
    assert parse(words).page is page


def test_a_part_of_the_evaluations_can_be_chosen(capsys):
    assert parse(["--only", "bound,sudoku"]).only == ["bound", "sudoku"]
    assert parse([]).only == list(EVALUATIONS)
    with pytest.raises(SystemExit):
        parse(["--only", "chess"])
    assert "chess: not among sudoku, " in capsys.readouterr().err


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation_of_the_card_can_begin(name):
    settings = settings_of(EVALUATIONS[name].format(n=2)) | {"output": "/out", "model": "embedded"}

    spec = load_eval_spec(settings)

    assert all(suite.questions for suite in build_suites(spec.suite, spec.options()))


def test_the_card_has_every_evaluation():
    measured = json.loads((EMBEDDED / "card.json").read_text())["measured"]

    assert list(measured["about"]) == list(EVALUATIONS)
    assert {point["evaluation"] for point in measured["points"]} == set(EVALUATIONS)
