"""serve.yaml against Serve's own models: Serve itself lets unknown keys pass in silence."""

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
from cluster.serve import render_serve
from cluster.spec import load
from deployments.app import AppArgs, build_app
from deployments.autoscaling import BacklogPolicy
from deployments.replica import ReplicaConfig
from dream import Engine, EngineConfig, memory
from dream.engine import startup
from dream.errors import CheckpointError, MemoryExceeded

TEXT = (Path(deployments.__file__).parent / "serve.yaml").read_text()
CONFIG = yaml.safe_load(TEXT)
APPLICATION = CONFIG["applications"][0]
DEPLOYMENTS = {entry["name"]: entry for entry in APPLICATION["deployments"]}


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
    """The file is for machines that have what this one may not."""
    monkeypatch.setenv("RAY_ADDRESS", "auto")


def replica_engine(args: dict[str, object]) -> EngineConfig:
    """Settings of the engine that a replica of the app with these arguments makes."""
    ingress = build_app(AppArgs.model_validate(args))._bound_deployment
    replica: ReplicaConfig = ingress.init_args[0]._bound_deployment.init_args[0]
    return replica.engine


def test_no_key_is_unknown_to_serve():
    assert unknown_keys(CONFIG, ServeDeploySchema) == []
    assert unknown_keys(APPLICATION, ServeApplicationSchema) == []
    for entry in DEPLOYMENTS.values():
        assert unknown_keys(entry, DeploymentSchema) == []
        autoscaling = entry.get("autoscaling_config", {})
        assert unknown_keys(autoscaling, AutoscalingConfig) == []


@pytest.mark.parametrize(
    ("where", "path"),
    [
        (CONFIG, "bogus"),
        (APPLICATION, "applications.bogus"),
        (DEPLOYMENTS["Ingress"], "applications.deployments.bogus"),
    ],
)
def test_the_walk_finds_a_typo_at_every_level(monkeypatch, where, path):
    monkeypatch.setitem(where, "bogus", 1)

    assert unknown_keys(CONFIG, ServeDeploySchema) == [path]


def test_serve_itself_takes_the_file():
    ServeDeploySchema.model_validate(yaml.safe_load(TEXT))


def test_the_arguments_are_those_of_the_app():
    args = AppArgs.model_validate(APPLICATION["args"])

    assert (args.device, args.dtype) == ("cuda", "bfloat16")
    assert import_attr(APPLICATION["import_path"]) is build_app


def test_the_committed_file_is_the_one_rendered_for_aws():
    assert render_serve("aws", {}) == TEXT


def test_the_cluster_plans_with_the_numbers_that_the_replica_is_refused_by(tmp_path, monkeypatch):
    """The launcher file, the Serve config file and the engine: one plan, to the byte."""
    root = Path(deployments.__file__).parents[1]
    planned = load(root / "cluster.yaml").plan(memory.DREAM_7B).memory
    config = replica_engine(APPLICATION["args"])
    (tmp_path / "config.json").write_text(json.dumps(DREAM_7B_CONFIG))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    assert memory.plan(memory.DREAM_7B, config) == planned
    monkeypatch.setattr(startup, "free_memory", lambda device: planned.total - 1)
    with pytest.raises(MemoryExceeded, match=re.escape(str(planned))):
        Engine.from_pretrained(tmp_path, config)
    monkeypatch.setattr(startup, "free_memory", lambda device: planned.total)
    with pytest.raises(CheckpointError, match="safetensors"):
        Engine.from_pretrained(tmp_path, config)


def test_a_gpu_of_80_gb_holds_what_the_files_ask_for():
    config = replica_engine(APPLICATION["args"])

    assert memory.plan(memory.DREAM_7B, config).total < memory.gpu_budget(79 * memory.GIB) / 3


def test_the_deployments_are_those_of_the_app():
    app = build_app(AppArgs.model_validate(APPLICATION["args"]))

    ingress = app._bound_deployment
    replica = ingress.init_args[0]._bound_deployment
    assert set(DEPLOYMENTS) == {ingress.name, replica.name}


def test_replicas_are_scaled_by_their_backlog():
    policy = DEPLOYMENTS["DreamReplica"]["autoscaling_config"]["policy"]

    assert import_attr(policy["policy_function"]) is BacklogPolicy
    assert isinstance(BacklogPolicy(**policy["policy_kwargs"]), BacklogPolicy)
