"""Sampling parameters are refused by name, value and what is allowed."""

from __future__ import annotations

import math
import pickle

import pytest

from dream import EngineConfig, InvalidRequest, Request, SamplingParams, Template
from dream.errors import CheckpointError, ContextLengthExceeded, EngineError, MemoryExceeded
from dream.template import Hole


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2049),
        ("steps", 1.0),
        ("steps", True),
        ("alg", "greedy"),
        ("order", "spiral"),
        ("alg_temp", -0.1),
        ("eps", 0.0),
        ("eps", 1.0),
        ("eps", None),
        ("temperature", -1.0),
        ("temperature", 1e-46),
        ("temperature", 1e39),
        ("alg_temp", 1e-320),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_p", 1.5),
        ("top_p", -0.1),
        ("top_k", 0),
        ("top_k", 2**63),
        ("early_exit", []),
        ("early_exit", "no"),
        ("temperature", 10**400),
        ("factor", 10**400),
        ("seed", -1),
        ("seed", 2**63),
        ("threshold", 1.5),
        ("low_threshold", 0.5),
        ("factor", -1.0),
        ("entropy_bound", -0.1),
        ("entropy_threshold", "low"),
        ("min_commits", 2),
        ("min_commits", None),
        ("max_commits", 0),
        ("block_length", 0),
        ("frontier", 2.5),
        ("eos_frontier", -1),
        ("eos_annealing", 0.5),
        ("eos_annealing", 1e300),
        ("egi_temperature", 0),
        ("history", 9),
        ("history", None),
        ("history_top", 0),
        ("grow_to", 2049),
        ("window", "both"),
        ("refresh_every", 1),
        ("vicinity", 1),
        ("suffix_window", 8),
    ],
)
def test_a_value_out_of_range_names_field_and_value(field, value):
    with pytest.raises(InvalidRequest) as error:
        SamplingParams(**{"steps": 4, field: value})

    assert error.value.field == field
    assert repr(value) in str(error.value)
    assert error.value.allowed


@pytest.mark.parametrize("changes", [{"threads": 2**40}, {"threads": 0}, {"device": "cuda:9999"}])
def test_engine_settings_beyond_any_machine_are_refused(changes):
    with pytest.raises(InvalidRequest, match=next(iter(changes))):
        EngineConfig(**changes)


def test_an_order_needs_an_algorithm_that_ranks():
    with pytest.raises(InvalidRequest, match="origin"):
        SamplingParams(steps=4, alg="origin", order="random")


@pytest.mark.parametrize(
    ("field", "value", "more"),
    [
        ("eos_annealing", 2.0, {"order": "left_to_right"}),
        ("eos_annealing", 2.0, {"history": 1}),
        ("history", 1, {"temperature": 0.5}),
        ("history", 1, {"alg": "origin"}),
        ("eos_frontier", 4, {"alg": "origin"}),
        ("egi_temperature", 1.0, {"alg": "origin"}),
    ],
)
def test_fields_that_do_not_go_together_are_refused_by_name(field, value, more):
    with pytest.raises(InvalidRequest) as error:
        SamplingParams(steps=4, **{field: value}, **more)

    assert (error.value.field, error.value.value) == (field, value)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, None),
        ({"history": 2, "eos_frontier": 0, "grow_to": 64}, None),
        ({"window": "prefix"}, "window=prefix"),
        ({"window": "dual", "vicinity": 2}, "window=dual, vicinity=2"),
        ({"suffix_window": 0, "frontier": 4}, "suffix_window=0"),
    ],
)
def test_an_approximate_mode_has_a_name_and_exact_decoding_none(fields, name):
    assert SamplingParams(steps=4, **fields).approximation == name


def test_defaults_are_dreams():
    params = SamplingParams(steps=None)

    assert (params.alg, params.eps, params.temperature) == ("entropy", 1e-3, 0.0)
    assert (params.alg_temp, params.top_p, params.top_k, params.early_exit) == (
        None,
        None,
        None,
        True,
    )


def test_a_request_has_a_name():
    with pytest.raises(InvalidRequest, match="id"):
        Request(id="", template=Template([Hole(1)]), params=SamplingParams(steps=1))


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("steps", 0, "1..2048"),
        ContextLengthExceeded("grow_to", 4096, "at most 2000"),
        MemoryExceeded("max_logit_rows", 512, "at most 64", {"max_logit_rows": 64}),
        EngineError("the engine has stopped"),
        CheckpointError("config.json: no mask_token_id"),
    ],
)
def test_errors_cross_processes_as_they_are(error):
    """Ray pickles what a replica or a stage raises."""
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
