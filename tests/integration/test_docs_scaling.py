"""docs/scaling.md: what it configures is taken by Serve and by the app."""

from __future__ import annotations

import re

import yaml
from ray.serve._private.utils import import_attr
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema

from deployments.app import AppArgs, build_app
from deployments.autoscaling import BacklogPolicy
from deployments.endpoints import IngressConfig
from deployments.live import LiveConfig
from deployments.replica import ReplicaConfig
from tests.conftest import ROOT
from tests.deployments.test_serve_yaml import unknown_keys

TEXT = (ROOT / "docs/scaling.md").read_text()
SCALED, LIVE = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S))


def test_the_deployment_has_no_key_that_serve_does_not_know():
    assert unknown_keys(SCALED, DeploymentSchema) == []
    assert unknown_keys(SCALED["autoscaling_config"], AutoscalingConfig) == []
    DeploymentSchema.model_validate(SCALED)


def test_the_policy_is_made_of_its_arguments():
    policy = SCALED["autoscaling_config"]["policy"]

    assert import_attr(policy["policy_function"]) is BacklogPolicy
    assert isinstance(BacklogPolicy(**policy["policy_kwargs"]), BacklogPolicy)


def test_every_user_config_is_valid_and_concerns_its_deployment():
    configs = {"Ingress": IngressConfig, "DreamReplica": ReplicaConfig}

    for deployment in LIVE:
        LiveConfig.read(deployment["user_config"])
        assert set(deployment["user_config"]) <= set(configs[deployment["name"]].__annotations__)
    assert "preset" in IngressConfig.__annotations__


def test_the_arguments_that_it_names_exist_with_these_defaults():
    args = AppArgs(model="embedded")

    assert (args.max_step_s, args.max_surge_percent) == (120, 0)
    app = build_app(AppArgs(model="embedded", max_surge_percent=100))
    assert app._bound_deployment._deployment_config.max_surge_percent == 100
