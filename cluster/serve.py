"""The Serve config file of a rendered cluster: the same model, budgets and replicas."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import yaml

from cluster.providers.base import Yaml
from cluster.render import render, render_command
from cluster.settings import EngineSettings
from cluster.spec import DreamBlock, parse

__all__ = ["APP_ARGS", "deploy_command", "render_serve"]

APP_ARGS = ("device", *EngineSettings.model_fields)
"""Engine settings that are arguments of the app (`deployments.app`)."""

START_ATTEMPTS = 3
"""Replicas that may fail to start, on machines that may, before the deployment has failed."""

TARGET_SECONDS = 5.0
"""Of queued work for a replica, at the pace that replicas measure."""


def render_serve(provider: str, options: Mapping[str, str]) -> str:
    """Config file for `serve deploy`, from the launcher file of the same options."""
    block = parse(render(provider, options)).dream
    lines = [
        "Serve config file, rendered; to change it, render it again:",
        "  " + render_command(provider, options, "--serve"),
        "Deploy it through the tunnel that `ray dashboard cluster.yaml` opens:",
        "  " + deploy_command("FILE"),
        "Replicas are added until each has at most target_seconds of work queued.",
        "Listens on the head's loopback. Elsewhere it starts with args.keys alone: the path of a",
        "file of API keys (python -m deployments.keys create), on the machine of the ingress.",
    ]
    header = "".join(f"# {line}\n" for line in lines)
    return header + yaml.safe_dump(_config(block), sort_keys=False, width=1000)


def deploy_command(file: str) -> str:
    """What to type to deploy a `file`; the token of the cluster must be in ~/.ray."""
    return f"RAY_AUTH_MODE=token serve deploy -a http://127.0.0.1:8265 {shlex.quote(file)}"


def _config(block: DreamBlock) -> Mapping[str, Yaml]:
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "applications": [
            {
                "name": "dream",
                "route_prefix": "/",
                "import_path": "deployments.app:build_app",
                "args": _args(block),
                "deployments": [
                    {"name": "Ingress", "num_replicas": 1},
                    {"name": "DreamReplica", "autoscaling_config": _autoscaling(block)},
                ],
            }
        ],
    }


def _args(block: DreamBlock) -> Mapping[str, Yaml]:
    settings = {name: getattr(block, name) for name in APP_ARGS}
    return {"model": block.model, **settings, "start_attempts": START_ATTEMPTS}


def _autoscaling(block: DreamBlock) -> Mapping[str, Yaml]:
    return {
        "min_replicas": block.replicas.min,
        "max_replicas": block.replicas.max,
        "policy": {
            "policy_function": "deployments.autoscaling:BacklogPolicy",
            "policy_kwargs": {"target_seconds": TARGET_SECONDS},
        },
        "look_back_period_s": 30,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
    }
