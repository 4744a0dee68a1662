from __future__ import annotations

import pytest
import ray
from pydantic import ValidationError
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

import deployments.app
from deployments.app import AppArgs, build_app


def built(monkeypatch, **args: object) -> AppArgs:
    """What Serve hands to the builder for these `key=value` arguments."""
    seen: list[AppArgs] = []
    real = deployments.app._ingress_config
    monkeypatch.setattr(
        deployments.app, "_ingress_config", lambda given: (seen.append(given), real(given))[1]
    )
    app = call_user_app_builder_with_args_if_necessary(build_app, args)
    assert isinstance(app, serve.Application)
    return seen[0]


def test_serve_makes_the_arguments_typed(monkeypatch):
    args = built(monkeypatch, model="embedded", timeout_s="30", max_ongoing_requests="3")

    assert isinstance(args, AppArgs)
    assert (args.timeout_s, args.max_ongoing_requests) == (30.0, 3)


@pytest.mark.parametrize(
    "wrong", [{}, {"model": "m", "modle": "x"}, {"model": "m", "device": "tpu"}, {"model": ""}]
)
def test_serve_refuses_wrong_arguments(wrong):
    with pytest.raises(ValidationError):
        call_user_app_builder_with_args_if_necessary(build_app, wrong)


def test_building_starts_no_ray_and_opens_no_checkpoint():
    before = ray.is_initialized()

    build_app(AppArgs(model="/nowhere/at/all"))

    assert ray.is_initialized() is before


@pytest.mark.parametrize(
    ("model", "model_id", "served"),
    [
        ("embedded", None, "embedded"),
        ("Dream-org/Dream-v0-Base-7B", None, "Dream-org/Dream-v0-Base-7B"),
        ("/models/secret/Dream-7B", None, "Dream-7B"),
        ("./Dream-7B/", None, "Dream-7B"),
        ("/models/secret/Dream-7B", "org/dream", "org/dream"),
    ],
)
def test_the_wire_never_shows_the_path_of_a_folder(model, model_id, served):
    assert AppArgs(model=model, model_id=model_id).served_id == served


@pytest.mark.parametrize(
    ("device", "options"),
    [("cpu", {"num_cpus": 2.0}), ("cuda", {"num_cpus": 2.0, "num_gpus": 1})],
)
def test_a_replica_asks_ray_for_what_the_topology_says(device, options):
    app = build_app(AppArgs(model="m", device=device, num_cpus=2, max_queued_requests=5))

    replica = app._bound_deployment.init_args[0]._bound_deployment
    given = replica.ray_actor_options
    assert {name: given[name] for name in options} == options
    assert (replica.name, replica.max_queued_requests) == ("DreamReplica", 5)
