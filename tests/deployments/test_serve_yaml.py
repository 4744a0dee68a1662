"""The Serve config files against Serve's own models: Serve lets unknown keys pass in silence."""

from __future__ import annotations

import json
import re
import types
from dataclasses import asdict
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from ray.serve._private.utils import import_attr
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

import deployments
from cluster.machines import MACHINES
from cluster.serve import render_for_machines, render_serve
from cluster.spec import load, read_shape
from deployments.app import AppArgs, build_app
from deployments.autoscaling import BacklogPolicy
from deployments.replica import ReplicaConfig
from dream import Engine, EngineConfig, memory
from dream.engine import startup
from dream.errors import CheckpointError, MemoryExceeded

FOLDER = Path(deployments.__file__).parent / "serve"
TEXTS = {name: render_for_machines(name, {}) for name in MACHINES} | {
    "aws": render_serve("aws", {})
}
CONFIGS = {name: yaml.safe_load(text) for name, text in TEXTS.items()}


@pytest.fixture(params=CONFIGS)
def config(request) -> dict[str, Any]:
    return CONFIGS[request.param]


@pytest.fixture
def application(config) -> dict[str, Any]:
    return config["applications"][0]


@pytest.fixture
def parts(application) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in application["deployments"]}


def unknown_keys(value: object, model: type[BaseModel], path: str = "") -> list[str]:
    """Dotted paths of the keys that the model, or a model inside it, does not have."""
    assert isinstance(value, dict)
    found: list[str] = []
    for key, child in value.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in model.model_fields:
            found.append(here)
            continue
        for inner in _models(model.model_fields[key].annotation):
            children = child if isinstance(child, list) else [child]
            for item in children:
                if isinstance(item, dict):
                    found += unknown_keys(item, inner, here)
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models named anywhere in a field's type."""
    if get_origin(annotation) in (Union, types.UnionType, list):
        return [model for part in get_args(annotation) for model in _models(part)]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_model else []


DREAM_7B_CONFIG = asdict(memory.DREAM_7B) | {"model_type": "Dream", "rms_norm_eps": 1e-6}
DREAM_7B_CONFIG |= {"rope_theta": 1e6, "mask_token_id": 151_666, "eos_token_id": 151_643}


@pytest.fixture(autouse=True)
def _on_a_cluster(monkeypatch):
    """The files are for machines that have what this one may not."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")


def replica_engine(args: dict[str, object]) -> EngineConfig:
    """Settings of the engine that a replica of the app with these arguments makes."""
    ingress = build_app(AppArgs.model_validate(args))._bound_deployment
    replica: ReplicaConfig = ingress.init_args[0]._bound_deployment.init_args[0]
    return replica.engine


def test_the_committed_files_are_the_ones_rendered():
    committed = {path.stem: path.read_text() for path in FOLDER.iterdir()}

    assert committed == {name: TEXTS[name] for name in MACHINES}


def test_no_key_is_unknown_to_serve(config, application, parts):
    assert unknown_keys(config, ServeDeploySchema) == []
    assert unknown_keys(application, ServeApplicationSchema) == []
    for entry in parts.values():
        assert unknown_keys(entry, DeploymentSchema) == []
        autoscaling = entry.get("autoscaling_config", {})
        assert unknown_keys(autoscaling, AutoscalingConfig) == []


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ((), ""),
        (("applications", 0), "applications."),
        (("applications", 0, "deployments", 0), "applications.deployments."),
    ],
)
def test_the_walk_finds_a_typo_at_every_level(path, prefix):
    config = yaml.safe_load(TEXTS["node"])
    where = config
    for key in path:
        where = where[key]
    where["bogus"] = 1

    assert unknown_keys(config, ServeDeploySchema) == [f"{prefix}bogus"]


def test_serve_itself_takes_the_files(config):
    ServeDeploySchema.model_validate(config)


def test_the_arguments_are_those_of_the_app(application):
    args = AppArgs.model_validate(application["args"])

    assert args.engine.device == application["args"]["device"]
    assert import_attr(application["import_path"]) is build_app


def test_the_cluster_plans_with_the_numbers_that_the_replica_is_refused_by(tmp_path, monkeypatch):
    """The launcher file, the Serve config file and the engine: one plan, to the byte."""
    root = Path(deployments.__file__).parents[1]
    planned = load(root / "cluster.yaml").plan(memory.DREAM_7B).memory
    config = replica_engine(CONFIGS["aws"]["applications"][0]["args"])
    (tmp_path / "config.json").write_text(json.dumps(DREAM_7B_CONFIG))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    assert memory.plan(memory.DREAM_7B, config) == planned
    monkeypatch.setattr(startup, "free_memory", lambda device: planned.total - 1)
    with pytest.raises(MemoryExceeded, match=re.escape(str(planned))):
        Engine.from_pretrained(tmp_path, config)
    monkeypatch.setattr(startup, "free_memory", lambda device: planned.total)
    with pytest.raises(CheckpointError, match="safetensors"):
        Engine.from_pretrained(tmp_path, config)


@pytest.mark.parametrize("name", MACHINES)
def test_a_header_has_the_memory_that_the_engine_will_need(name):
    args = CONFIGS[name]["applications"][0]["args"]
    planned = memory.plan(read_shape(args["model"]), replica_engine(args))

    assert f"{planned.total / memory.GIB:.1f} GiB of " in TEXTS[name]


def test_the_deployments_are_those_of_the_app(application, parts):
    ingress = build_app(AppArgs.model_validate(application["args"]))._bound_deployment

    replica = ingress.init_args[0]._bound_deployment
    assert set(parts) == {ingress.name, replica.name}


def test_replicas_are_scaled_by_their_backlog(parts):
    scaling = parts["DreamReplica"].get("autoscaling_config")
    if scaling is None:
        assert parts["DreamReplica"]["num_replicas"] == 1
        return

    policy = scaling["policy"]
    assert import_attr(policy["policy_function"]) is BacklogPolicy
    assert isinstance(BacklogPolicy(**policy["policy_kwargs"]), BacklogPolicy)


@pytest.mark.parametrize(
    ("name", "place", "ingresses", "degree"),
    [
        ("cpu", "HeadOnly", 1, 1),
        ("gpu", "HeadOnly", 1, 1),
        ("node", "HeadOnly", 2, 1),
        ("nodes", "EveryNode", 2, 2),
        ("aws", "EveryNode", 2, 1),
    ],
)
def test_what_differs_between_the_machines(name, place, ingresses, degree):
    config = CONFIGS[name]
    application = config["applications"][0]

    assert config["proxy_location"] == place
    assert application["deployments"][0]["num_replicas"] == ingresses
    assert application["args"]["tensor_parallel"] == degree
