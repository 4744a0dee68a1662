"""The card of a checkpoint: every point has its cost, and the page is that of one checkpoint."""

from __future__ import annotations

import pytest

from benchmarks.model_card import END, START, parse, points_of, with_tables


def share(n, acc, passes):
    return {
        "n": n,
        "acc": acc,
        "wilson_low": 0.0,
        "wilson_high": 1.0,
        "forward_passes": passes,
        "token_forwards": 20 * passes,
    }


def results(task, buckets):
    whole = {"sample_len": 7, "acc,none": 0.5, "acc_wilson_low": 0.1, "acc_wilson_high": 0.9}
    sampling = {"order": "random", "alg": "entropy", "temperature": 0.0, "steps": "4"}
    sampling |= {"threshold": None}
    scores = whole | {"forward_passes": 3.333, "token_forwards": 60.0, "buckets": buckets}
    return {
        "results": {"a": scores},
        "configs": {"a": {"task": task, "generation_kwargs": sampling}},
    }


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
    ("sizes", "words"), [([20], "20 questions"), ([1000, 50], "50 to 1,000 questions")]
)
def test_the_page_says_how_many_questions_were_asked(sizes, words):
    buckets = {str(n): share(n, 0.5, 1.0) for n in sizes}

    page = with_tables(f"a {START} old {END} b", points_of(results("sudoku4", buckets)))

    assert f"{words} a point" in page
    assert "old" not in page


@pytest.mark.parametrize(
    ("words", "page"),
    [([], True), (["--model", "out/m"], False), (["--model", "out/m", "--page"], True)],
)
def test_the_page_is_written_for_the_embedded_checkpoint_or_on_demand(words, page):
    assert parse(words).page is page
