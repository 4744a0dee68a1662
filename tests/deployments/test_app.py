from __future__ import annotations

from dataclasses import fields, replace

import pytest
import ray
import torch
from click.testing import CliRunner
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.scripts import cli as serve_cli

import deployments.app
from deployments.app import AppArgs, AppError, build_app
from deployments.gate import GateConfig
from dream import EngineConfig
from dream.model import quantize
from dream.options import options_of


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


def run(*words: str) -> tuple[int, str]:
    """Exit code and output of `serve run deployments.app:build_app` with these arguments."""
    done = CliRunner().invoke(serve_cli, ["run", "deployments.app:build_app", *words])
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["model", "missing"]),
        (["model="], ["model"]),
        (["model=embedded", "modle=x"], ["modle", "model_id", "max_logit_rows"]),
        (["model=embedded", "device=tpu"], ["device='tpu'", "cuda"]),
        (["model=embedded", "device=cuda:1"], ["device='cuda:1'", "cpu or cuda"]),
        (["model=embedded", "max_logit_rows=0"], ["max_logit_rows='0'", "equal to 1"]),
        (["model=embedded", "threads=many"], ["threads='many'", "integer"]),
        (["model=embedded", "tensor_parallel=3"], ["tensor_parallel=3", "one of 1, 2"]),
        (["model=embedded", "cuda_graphs=true"], ["cuda_graphs=True", "varlen"]),
        (["model=/nowhere/at/all"], ["/nowhere/at/all", "no such folder", "RAY_ADDRESS"]),
        (["model=tests"], ["tests", "config.json"]),
        (["model=two words"], ["two words"]),
        (["model=embedded", "keys="], ["keys"]),
        (["model=embedded", "keys=/nowhere.json"], ["key file /nowhere.json", "No such file"]),
        (["model=embedded", "keys=k", "insecure_no_auth=true"], ["insecure_no_auth", "keys"]),
        (["model=embedded", "cors_origins=*"], ["cors_origins"]),
        (["model=embedded", "cors_origins=https://a.example,b"], ["cors_origins"]),
        (["model=embedded", "allowed_hosts=Upper"], ["allowed_hosts"]),
    ],
)
def test_a_wrong_argument_is_one_line_and_starts_nothing(words, names, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)

    code, told = run(*words)

    (line,) = [line for line in told.splitlines() if "Running import path" not in line]
    assert code == 1
    assert line.startswith("Error: ")
    assert all(name in line for name in names)


def test_a_machine_without_torchao_is_told_which_extra_has_it(monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    with pytest.raises(AppError, match=r"dtype int8 needs torchao: .*dream-cluster\[quant\]"):
        build_app(AppArgs(model="embedded", dtype="int8"))


def test_a_machine_without_a_gpu_is_told_so_unless_others_serve(monkeypatch):
    args = AppArgs(model="embedded", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(AppError, match="no CUDA device on this machine"):
        build_app(args)

    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")

    assert isinstance(build_app(args), serve.Application)
    assert isinstance(build_app(AppArgs(model="/only/there")), serve.Application)


def test_every_engine_setting_is_an_argument_with_its_default():
    args = AppArgs(model="m")

    declared = {name: one.default for name, one in options_of(EngineConfig).items()}
    assert {name: getattr(args, name) for name in declared} == declared
    assert replace(args.engine, threads=None) == EngineConfig()


@pytest.mark.parametrize("field", fields(EngineConfig), ids=lambda field: field.name)
def test_every_engine_setting_reaches_the_engine(field):
    others = {"device": "cpu", "attention": "sdpa", "dtype": "float16", "tensor_parallel": 1}
    value = {"cuda_graphs": False}.get(field.name, others.get(field.name, 7))
    is_switch = options_of(EngineConfig)[field.name].kind is bool and field.name != "cuda_graphs"
    value = True if is_switch else value

    engine = AppArgs(model="m", **{field.name: str(value)}).engine

    assert getattr(engine, field.name) == value


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"num_cpus": 2.5}, 2)])
def test_a_replica_uses_as_many_threads_as_it_asks_cpus_for(given, threads):
    assert AppArgs(model="m", **given).engine.threads == threads
    assert AppArgs(model="m", threads=5, **given).engine.threads == 5


def test_lists_are_words_between_commas_or_lists(tmp_path, monkeypatch):
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    monkeypatch.chdir(tmp_path)
    origins, hosts = ["https://a.example", "http://b:80"], ["dream.lan", "[::1]"]

    line = AppArgs(
        model="m", keys="keys.json", cors_origins=",".join(origins), allowed_hosts=",".join(hosts)
    )
    file = AppArgs(model="m", keys=str(keys), cors_origins=origins, allowed_hosts=hosts)

    assert line.gate == file.gate
    assert line.gate.cors_origins == tuple(origins)
    assert line.gate.keys == str(keys)


def test_the_ingress_is_told_who_may_call_and_never_a_key(tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')

    app = build_app(AppArgs(model="embedded", keys=str(keys)))

    assert app._bound_deployment.init_args[2] == GateConfig(keys=str(keys))


def test_building_starts_no_ray_and_downloads_nothing():
    before = ray.is_initialized()

    build_app(AppArgs(model="nobody/nothing"))

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
def test_a_replica_asks_ray_for_what_the_topology_says(device, options, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")

    app = build_app(AppArgs(model="m", device=device, num_cpus=2, max_queued_requests=5))

    replica = app._bound_deployment.init_args[0]._bound_deployment
    given = replica.ray_actor_options
    assert {name: given[name] for name in options} == options
    assert (replica.name, replica.max_queued_requests) == ("DreamReplica", 5)
