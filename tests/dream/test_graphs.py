"""Padded forwards with fixed tensors, replayed: what CUDA graphs need, without CUDA.

The double stands in for the capture alone: it repeats the call on the same tensors, as a graph
does. `tests/gpu` captures for real.
"""

from __future__ import annotations

import pytest
import torch

from dream.engine import graphs as module
from dream.engine.graphs import SIGHTS, StepGraphs
from tests.models import golden_engine, golden_model
from tests.models import request as build_request

SHAPES = [[[1, 2, 3], 9], [[4] * 5, 6], [[7, 8], 12, [9], 3]]
WINDOW = {"window": "dual", "block_length": 4, "threshold": 1.0}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Shapes are captured when they are first seen, if a test does not say otherwise."""
    monkeypatch.setattr(module, "SIGHTS", 1)


def engine_with_graphs(max_logit_rows=512):
    engine = golden_engine()
    graphs = StepGraphs(golden_model(), lambda call: call, max_logit_rows)
    engine._runner._graphs = graphs
    return engine, graphs


@pytest.mark.parametrize("max_logit_rows", [32, 512], ids=["forward", "sampler"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        WINDOW,
        {"threshold": 0.0},
        {"alg": "origin"},
        {"temperature": 0.8, "seed": 3},
        {"temperature": 0.8, "top_p": 0.9, "top_k": 7, "seed": 3},
        {"temperature": 2.0, "top_k": 400, "seed": 3},
        {"history": 2, "history_top": 3},
        {"eos_annealing": 3.0},
    ],
)
def test_replayed_steps_give_the_tokens_of_plain_ones(params, max_logit_rows):
    """Where a graph has room for the candidates' logits it holds the sampler too."""
    wanted = [build_request(f"r{n}", shape, **params) for n, shape in enumerate(SHAPES)]
    engine, graphs = engine_with_graphs(max_logit_rows)

    found = engine.generate(wanted)

    assert found == golden_engine().generate(wanted)
    assert graphs.num_replayed == engine.stats.steps


def test_a_graph_holds_the_sampler_where_all_rows_have_one_key():
    engine, graphs = engine_with_graphs()
    stages: list[str] = []
    engine.trace(stages.append)

    engine.generate([build_request("a", [[1, 2, 3], 9], alg="maskgit_plus")])

    assert "sample" not in stages
    assert {shape.tail.alg for shape in graphs._graphs} == {"maskgit_plus"}


def test_a_graph_serves_again_when_sizes_of_its_bucket_come_back():
    """Other tokens and lengths in the same tensors; what an earlier step left is not seen."""
    engine, graphs = engine_with_graphs()
    engine.generate([build_request("a", [[1, 2, 3], 9])])
    captured = graphs.num_captured

    again = engine.generate([build_request("b", [[30, 20, 10], 9])])

    assert graphs.num_captured == captured
    assert again == golden_engine().generate([build_request("b", [[30, 20, 10], 9])])


def layouts_of(engine, requests, steps):
    """Shapes that the first steps of these requests would have under variable-length attention."""
    graphs = engine._runner._graphs
    shapes = []

    def run(token_ids_T, layout, tail):
        graphs._model.backend = "varlen"
        try:
            shapes.append(graphs._shape(layout, tail))
        finally:
            graphs._model.backend = "sdpa"
        return module.Result(graphs._model(token_ids_T, layout), None)

    engine._runner._graphs = type("Looking", (), {"run": staticmethod(run)})()
    for one in requests:
        engine.add(one)
    for _ in range(steps):
        engine.step()
    return shapes


def test_buckets_are_coarse():
    """Any mix of up to 512 rows has one of few shapes, so that shapes come back."""
    engine, _ = engine_with_graphs()
    shapes = set()
    for number in range(1, 12):
        wanted = [build_request(f"{number}/{n}", [[5] * (number + n), 8]) for n in range(number)]
        shapes |= {shape for shape in layouts_of(engine, wanted, 2) if shape is not None}
        engine, _ = engine_with_graphs()

    assert len(shapes) <= 10
    assert all(shape.num_rows % 64 == 0 and shape.num_rows <= 512 for shape in shapes)


def test_a_shape_is_captured_when_it_comes_again_and_again(monkeypatch):
    monkeypatch.setattr(module, "SIGHTS", SIGHTS)
    engine, graphs = engine_with_graphs()
    captured = []

    for number in range(SIGHTS + 1):
        engine.generate([build_request(f"{number}", [[1, 2, number + 3], 9], steps=1)])
        captured.append(graphs.num_captured)

    assert captured == [0] * (SIGHTS - 1) + [1, 1]


def test_shapes_never_take_turns_in_being_captured(monkeypatch):
    """With room for two graphs, the third shape runs as it is until one is long unused."""
    monkeypatch.setattr(module, "MOST_GRAPHS", 2)
    monkeypatch.setattr(module, "LONG_UNUSED", 6)
    engine, graphs = engine_with_graphs()
    sizes = [4, 8, 12]

    def run(size, name):
        engine.generate([build_request(name, [[1] * 3, size], steps=1)])
        return {shape.length_groups[0][0].num_keys for shape in graphs._graphs}

    for turn in range(2):
        kept = [run(size, f"{turn}/{size}") for size in sizes]
    assert kept[-1] == {7, 11}
    for turn in range(2, 8):
        kept.append(run(12, f"{turn}"))
    assert len(kept[-1]) == 2
    assert 15 in kept[-1]


def test_kept_rows_beside_exact_ones_and_large_steps_run_as_they_are():
    mixed = [build_request("a", [[1, 2], 8], **WINDOW), build_request("b", [[1, 2], 8])]
    large = [build_request(f"c{n}", [[n + 1] * 300, 80], steps=2) for n in range(2)]
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
