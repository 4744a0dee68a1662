"""Tests of `cluster.serve`: the Serve config file has the budgets and replicas of the plan."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

from cluster.errors import PlanError
from cluster.providers import PROVIDERS
from cluster.serve import APP_ARGS, render_serve
from cluster.settings import EngineSettings
from dream import EngineConfig
from tests.cluster.samples import OPTIONS


def rendered(**options):
    return yaml.safe_load(render_serve("aws", options))["applications"][0]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_renders_one_and_says_how(name):
    text = render_serve(name, OPTIONS[name])

    assert text.splitlines()[1].startswith(
        f"#   python -m cluster render --provider {name} --serve"
    )
    for key in OPTIONS[name]:
        assert f"{key}=" in text


def test_the_budgets_and_replicas_are_those_of_the_options():
    options = {"max_num_batched_tokens": 8192, "max_logit_rows": 64, "max_cache_tokens": 0}

    application = rendered(
        model="/models/dream",
        dtype="float32",
        min_replicas="2",
        max_replicas="3",
        **{name: str(value) for name, value in options.items()},
    )

    given = {"model": "/models/dream", "device": "cuda", "dtype": "float32"}
    given |= {"max_model_len": 2048, "tensor_parallel": 1, "start_attempts": 3}
    scaling = application["deployments"][1]["autoscaling_config"]
    assert application["args"] == given | options
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 3)


def test_replicas_that_do_not_fit_are_not_rendered():
    with pytest.raises(PlanError, match="tops out at 4"):
        rendered(max_replicas="5")


def test_a_replica_may_span_gpus():
    args = rendered(tensor_parallel="2", machines="p5.48xlarge:1")["args"]

    assert args["tensor_parallel"] == 2


def test_settings_have_the_names_of_the_engine():
    engine = {field.name for field in fields(EngineConfig)}

    assert set(APP_ARGS) == set(EngineSettings.model_fields) | {"device"}
    assert set(APP_ARGS) <= engine


def test_a_cluster_has_two_ingresses_behind_proxies_on_every_node():
    config = yaml.safe_load(render_serve("aws", {}))

    assert config["proxy_location"] == "EveryNode"
    assert config["applications"][0]["deployments"][0]["num_replicas"] == 2
