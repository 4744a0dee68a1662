"""Sampling parameters are refused by name, value and what is allowed."""

from __future__ import annotations

import math

import pytest

from dream import InvalidRequest, Request, SamplingParams, Template
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
    ],
)
def test_a_value_out_of_range_names_field_and_value(field, value):
    with pytest.raises(InvalidRequest) as error:
        SamplingParams(**{"steps": 4, field: value})

    assert error.value.field == field
    assert repr(value) in str(error.value)
    assert error.value.allowed


def test_an_order_needs_an_algorithm_that_ranks():
    with pytest.raises(InvalidRequest, match="origin"):
        SamplingParams(steps=4, alg="origin", order="random")


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
