"""Laws of the approximate modes: where they are exact, what they compute, what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import SamplingParams
from dream.window import WindowState
from tests.laws.strategies import requests
from tests.laws.test_engine_laws import steps_of
from tests.models import golden_engine
from tests.models import request as build_request

laws = settings(max_examples=40, deadline=None, derandomize=True)
EXACT = {"window": None, "refresh_every": None, "vicinity": 0, "suffix_window": None}
COMPLETE = [
    {"window": "dual", "refresh_every": 1},
    {"window": "prefix", "refresh_every": 1},
    {"window": "dual", "vicinity": 64},
    {"window": "prefix", "vicinity": 64},
    {"suffix_window": 64},
    {"suffix_window": 64, "window": "dual", "refresh_every": 1},
]
"""Settings under which nothing stale is seen and nothing is left out."""


@laws
@given(requests(max_size=3), st.sampled_from(COMPLETE))
def test_a_window_without_stale_or_missing_rows_is_exact(wanted, complete):
    exact = [replace(r, params=replace(r.params, **EXACT)) for r in wanted]
    windowed = [replace(r, params=completed(r.params, complete)) for r in exact]

    found, expected = steps_of(golden_engine(), windowed), steps_of(golden_engine(), exact)

    for request in wanted:
        assert found[request.id] == expected[request.id]
        assert found["done"][request.id].token_ids == expected["done"][request.id].token_ids


def completed(params: SamplingParams, complete: dict) -> SamplingParams:
    has_place = params.block_length is not None or params.frontier is not None
    fitting = {k: v for k, v in complete.items() if has_place or k != "suffix_window"}
    return replace(params, **fitting)


WINDOW = st.fixed_dictionaries(
    {
        "window": st.sampled_from(["dual", "prefix"]),
        "refresh_every": st.sampled_from([None, 2, 3]),
        "vicinity": st.sampled_from([0, 2]),
        "suffix_window": st.sampled_from([None, 0, 5]),
        "block_length": st.just(4),
    }
)


@laws
@given(WINDOW, st.data())
def test_what_is_needed_is_computed_and_what_is_seen_has_been(given_params, data):
    """Random fills of two blocks: candidates, their predicting rows, and fresh tokens."""
    length, prompt = 20, 3
    window = WindowState(length, SamplingParams(steps=None, **given_params))
    is_masked = np.arange(length) >= prompt
    computed_with = np.full(length, -2)  # what each kept row held: 1 mask, 0 token, -2 nothing
    committed_mask_rows: set[int] = set()
    for _ in range(60):
        masked = is_masked.nonzero()[0]
        if not len(masked):
            break
        block = int((masked[0] - prompt) // 4)
        candidates = masked[(masked - prompt) // 4 == block]
        view = window.view(is_masked, candidates, block)

        assert set(candidates) <= set(view.rows)
        assert set(np.maximum(candidates - 1, 0)) <= set(view.rows)
        assert set(view.rows) <= set(view.keys)
        seen_before = set(view.keys) - set(view.rows)
        assert all(computed_with[row] != -2 for row in seen_before)
        # Nothing that was filled meanwhile is seen as the mask it was.
        assert not seen_before & committed_mask_rows
        is_whole = len(view.rows) == len(view.keys)
        if is_whole:
            committed_mask_rows.clear()
        computed_with[view.rows] = is_masked[view.rows]
        count = data.draw(st.integers(1, len(candidates)))
        filled = data.draw(st.permutations(candidates.tolist()))[:count]
        window.apply(view, block, np.array(filled))
        is_masked[filled] = False
        committed_mask_rows = {row for row in range(prompt, length) if not is_masked[row]}
        committed_mask_rows = {row for row in committed_mask_rows if computed_with[row] == 1}


@pytest.mark.parametrize(
    ("extra", "whole", "most"),
    [
        ({}, [0, 4, 8], 5),
        ({"refresh_every": 2}, range(0, 12, 2), 5),
        ({"vicinity": 2}, [0, 4, 8], 9),
    ],
)
def test_all_rows_are_computed_where_a_block_begins_and_every_so_many_passes(extra, whole, most):
    """Else the rows of a block of 4 and the one before them, and the vicinity on both sides."""
    params = {"block_length": 4, "threshold": 1.0, "window": "dual", "early_exit": False}
    engine = golden_engine()
    engine.add(build_request("a", [[1, 2, 3], 12], **params, **extra))

    rows = []
    while engine.has_work:
        before = engine.stats.token_forwards
        engine.step()
        rows.append(engine.stats.token_forwards - before)

    assert [n for n, count in enumerate(rows) if count == 15] == list(whole)
    assert all(count <= most for count in rows if count != 15)


def test_a_suffix_window_leaves_out_masks_beyond_the_block_but_for_anchors():
    engine = golden_engine()
    wanted = build_request("a", [[1, 2], 18], block_length=4, suffix_window=2, threshold=1.0)
    engine.add(wanted)

    engine.step()

    # 2 given, a block of 4, 2 beyond it, and of the last 12 one in four: 7, 11, 15, 19.
    assert engine.stats.token_forwards == 2 + 4 + 2 + 3


def test_usage_names_the_approximate_mode_and_counts_its_rows():
    wanted = build_request(
        "a", [[1, 2, 3], 8], block_length=4, window="dual", refresh_every=3, early_exit=False
    )

    usage = golden_engine().generate([wanted])[0].usage

    assert usage.approximation == "window=dual, refresh_every=3"
    assert usage.token_forwards < usage.forward_passes * 11


@pytest.mark.parametrize("window", ["dual", "prefix"])
def test_a_stale_window_differs_from_exact_decoding_somewhere(window):
    """Otherwise the laws above would show nothing."""
    params = {"threshold": 1.0, "block_length": 8, "early_exit": False}
    differs = False
    for seed in range(8):
        rng = np.random.default_rng(seed)
        shape = [rng.integers(1, 400, 6).tolist(), 24]
        exact, stale = (
            golden_engine().generate([build_request("a", shape, **params, window=mode)])[0]
            for mode in (None, window)
        )
        differs |= exact.token_ids != stale.token_ids
    assert differs
