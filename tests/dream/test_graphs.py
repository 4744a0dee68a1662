"""Padded forwards with fixed tensors, replayed: what CUDA graphs need, without CUDA.

The double stands in for the capture alone: it repeats the call on the same tensors, as a graph
does. `tests/gpu` captures for real.
"""

from __future__ import annotations

import pytest
import torch

from dream.engine.graphs import ForwardGraphs
from tests.models import golden_engine, golden_model
from tests.models import request as build_request

SHAPES = [[[1, 2, 3], 9], [[4] * 5, 6], [[7, 8], 12, [9], 3]]
WINDOW = {"window": "dual", "block_length": 4, "threshold": 1.0}


def engine_with_graphs():
    engine = golden_engine()
    graphs = ForwardGraphs(golden_model(), lambda call: call)
    engine._runner._forward = graphs.forward
    return engine, graphs


@pytest.mark.parametrize("params", [{}, WINDOW, {"threshold": 0.0}, {"alg": "origin"}])
def test_replayed_steps_give_the_tokens_of_plain_ones(params):
    wanted = [build_request(f"r{n}", shape, **params) for n, shape in enumerate(SHAPES)]
    engine, graphs = engine_with_graphs()

    found = engine.generate(wanted)

    assert found == golden_engine().generate(wanted)
    assert graphs.num_replayed == engine.stats.steps


def test_a_graph_serves_again_when_the_same_sizes_come_back():
    """Other tokens in the same tensors; what an earlier step left there is not seen."""
    engine, graphs = engine_with_graphs()
    engine.generate([build_request("a", [[1, 2, 3], 9])])
    captured = graphs.num_captured

    again = engine.generate([build_request("b", [[30, 20, 10], 9])])

    assert graphs.num_captured == captured
    assert again == golden_engine().generate([build_request("b", [[30, 20, 10], 9])])


def test_kept_rows_beside_exact_ones_and_large_steps_run_as_they_are():
    mixed = [build_request("a", [[1, 2], 8], **WINDOW), build_request("b", [[1, 2], 8])]
    large = [build_request("c", [[1] * 300, 80], steps=2)]
    engine, graphs = engine_with_graphs()

    assert engine.generate(large) == golden_engine().generate(large)
    assert graphs.num_replayed == 0
    assert engine.generate(mixed) == golden_engine().generate(mixed)


def test_no_canvas_has_the_slot_that_padding_writes_to():
    engine, _ = engine_with_graphs()
    slots = [engine._scheduler._slots.acquire(1) for _ in range(engine.config.max_cache_tokens)]

    assert engine._cache.scratch_slot not in torch.tensor(
        [int(s[0]) for s in slots if s is not None]
    )
    assert engine._scheduler._slots.acquire(1) is None
