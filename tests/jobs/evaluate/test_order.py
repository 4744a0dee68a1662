"""How left to right a row was filled: NTP@k and FMS@k by their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.order import ORDER_KS, commit_order, fms, ntp, order_metrics

orders = st.integers(0, 12).flatmap(lambda n: st.permutations(range(n)))
ks = st.sampled_from(ORDER_KS)


def by_definition(order, k):
    """Both metrics as arXiv 2506.20639 writes them, one token at a time."""
    next_token = [
        set(order[t - k : t]) == {order[t] - i for i in range(1, k + 1)}
        for t in range(k, len(order))
    ]
    first_mask = [place in sorted(order[t:])[:k] for t, place in enumerate(order)]
    return [np.mean(found) if found else None for found in (next_token, first_mask)]


@given(orders, ks)
def test_both_metrics_are_their_definition(order, k):
    places = np.array(order, np.int64)

    assert [ntp(places, k), fms(places, len(order), k)] == by_definition(order, k)


@given(st.integers(5, 40))
def test_left_to_right_is_one_and_right_to_left_is_never_the_next_token(n):
    forward, backward = np.arange(n), np.arange(n)[::-1]

    for k in ORDER_KS:
        assert ntp(forward, k) == 1
        assert fms(forward, n, k) == 1
        assert ntp(backward, k) == 0
        assert fms(backward, n, k) == k / n


@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=12))
def test_a_step_that_commits_several_takes_them_from_left_to_right(steps):
    expected = sorted(
        (place for place, step in enumerate(steps) if step is not None),
        key=lambda place: (steps[place], place),
    )

    assert commit_order(steps).tolist() == expected


def test_places_that_an_early_exit_filled_count_as_masks_and_not_as_commits():
    found = order_metrics([None, 0, 1, None])

    assert found["ntp@1"] == 1
    assert found["fms@1"] == 0
    assert found["fms@2"] == 1


@pytest.mark.parametrize("steps", [None, [], [None, None]])
def test_a_row_that_committed_nothing_has_no_order(steps):
    assert set(order_metrics(steps).values()) == {None}


def test_a_row_filled_in_one_step_counts_as_left_to_right():
    assert set(order_metrics([0] * 9).values()) == {1.0}
