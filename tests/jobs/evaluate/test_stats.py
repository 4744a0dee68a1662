"""Intervals and differences against their formulas and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.stats import busy_seconds, paired_difference, stderr, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_is_its_formula_and_holds_the_share(counts):
    right, n = counts
    p, zz = right / n, 1.959963984540054**2 / n
    centre = (p + zz / 2) / (1 + zz)
    half = math.sqrt(zz * p * (1 - p) + zz * zz / 4) / (1 + zz)

    low, high = wilson(right, n)

    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert low - 1e-12 <= p <= high + 1e-12


def test_known_intervals_and_errors():
    assert wilson(900, 1000) == pytest.approx((0.880, 0.917), abs=5e-4)
    assert wilson(500, 1000) == pytest.approx((0.469, 0.531), abs=5e-4)
    assert stderr(1, 2) == pytest.approx(0.5)
    assert stderr(1, 1) is None
    low, high = wilson(50, 100, confidence=0.5)
    assert 0.45 < low < high < 0.55


def test_a_paired_difference_repeats_and_covers_what_the_pairs_allow():
    rng = np.random.default_rng(3)
    first, second = rng.random(400) < 0.5, rng.random(400) < 0.7

    found = paired_difference(first, second, seed=1)

    assert found == paired_difference(first, second, seed=1)
    assert found.mean == pytest.approx(second.mean() - first.mean())
    assert found.low < found.mean < found.high
    spread = np.std(second.astype(int) - first.astype(int)) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert found.low > 0
    assert paired_difference(first, first, seed=1) == (0, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8))
def test_busy_seconds_are_the_length_of_the_union(spans):
    spans = [(min(span), max(span)) for span in spans]
    covered = {second for low, high in spans for second in range(low, high)}

    assert busy_seconds([low for low, _ in spans], [high for _, high in spans]) == len(covered)
