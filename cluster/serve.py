"""The Serve config file of a cluster or of machines: one model, its budgets and its replicas."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from cluster.machines import Machines, capacity, memory_of_rank, read_machines
from cluster.providers.base import Yaml
from cluster.render import render, render_command
from cluster.settings import EngineSettings
from cluster.spec import parse

__all__ = ["APP_ARGS", "deploy_command", "render_for_machines", "render_serve"]

APP_ARGS = ("device", *EngineSettings.model_fields)
"""Engine settings that are arguments of the app (`deployments.app`)."""

START_ATTEMPTS = 3
"""Replicas that may fail to start, on machines that may, before the deployment has failed."""

TARGET_SECONDS = 5.0
"""Of queued work for a replica, at the pace that replicas measure."""

NUM_INGRESSES = 2
"""Of a cluster, so that one may die."""

_WHERE = (
    "Listens on the loopback of {}. Elsewhere it starts with args.keys alone: the path of a",
    "file of API keys (python -m deployments.keys create), on the machine of the ingress.",
)


_SURGE = (
    "There is room for one more than max_replicas, so that a redeploy starts new replicas before",
    "it stops old ones (max_surge_percent).",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What a config file says, whatever it was planned from. surge: replicas to spare."""

    args: Mapping[str, Yaml]
    min_replicas: int
    max_replicas: int
    surge: int = 0
    num_ingresses: int = NUM_INGRESSES
    is_on_every_node: bool = True


def render_serve(provider: str, options: Mapping[str, str]) -> str:
    """Config file for `serve deploy`, from the launcher file of the same options."""
    block = parse(render(provider, options)).dream
    lines = [
        render_command(provider, options, "--serve"),
        "Deploy it through the tunnel that `ray dashboard cluster.yaml` opens:",
        "  " + deploy_command("FILE"),
    ]
    settings = {name: getattr(block, name) for name in APP_ARGS}
    served = _Served(
        args={"model": block.model, **settings},
        min_replicas=block.replicas.min,
        max_replicas=block.replicas.max,
    )
    return _text(served, lines)


def render_for_machines(name: str, options: Mapping[str, str]) -> str:
    """Config file for `serve deploy`, for machines on which Ray runs without a launcher file."""
    machines = read_machines(name, options)
    fitting = capacity(machines)
    most = machines.max_replicas or (fitting - 1 if fitting >= 4 else fitting)
    words = ["python", "-m", "cluster", "render", "--serve", "--on", name]
    lines = [
        shlex.join([*words, *(f"{key}={value}" for key, value in options.items())]),
        *_about(machines, fitting),
        "Deploy it on the machine where Ray's head runs: serve deploy FILE",
    ]
    settings: dict[str, Yaml] = {name: getattr(machines, name) for name in APP_ARGS}
    if machines.cpus_per_rank != 1:
        settings["num_cpus"] = machines.cpus_per_rank
    served = _Served(
        args={"model": machines.model, **settings},
        min_replicas=min(machines.min_replicas, most),
        max_replicas=most,
        surge=fitting - most,
        num_ingresses=machines.num_ingresses,
        is_on_every_node=machines.num_nodes > 1,
    )
    return _text(served, lines)


def deploy_command(file: str) -> str:
    """What to type to deploy a `file`; the token of the cluster must be in ~/.ray."""
    return f"RAY_AUTH_MODE=token serve deploy -a http://127.0.0.1:8265 {shlex.quote(file)}"


def _about(machines: Machines, fitting: int) -> list[str]:
    """What the machines are, what a replica takes of them, and how many fit."""
    kind = f"{machines.num_gpus} GPUs" if machines.num_gpus else "no GPU"
    whole = "each GPU" if machines.num_gpus else "the machine"
    degree, cpus = machines.tensor_parallel, machines.cpus_per_rank
    each = f"{degree} GPUs of one node" if degree > 1 else "one GPU" if machines.num_gpus else ""
    num_cpus = "1 CPU" if degree * cpus == 1 else f"{degree * cpus} CPUs"
    takes = f"{each} and {num_cpus}" if each else num_cpus
    memory = memory_of_rank(machines)
    return [
        f"Machines: {machines.num_nodes} x ({machines.num_cpus} CPUs, {kind}), "
        f"{machines.memory_gib:g} GiB of memory in {whole}.",
        f"A replica takes {takes}, and {memory.total / 2**30:.1f} GiB of {whole}; {fitting} fit.",
    ]


def _text(served: _Served, lines: list[str]) -> str:
    command, *more = lines
    place = "every node" if served.is_on_every_node else "the head"
    header = [
        "Serve config file, rendered; to change it, render it again:",
        "  " + command,
        *more,
        "Replicas are added until each has at most target_seconds of work queued.",
        *(_SURGE if served.surge else ()),
        *(line.format(place) for line in _WHERE),
    ]
    text = "".join(f"# {line}\n" for line in header)
    return text + yaml.safe_dump(_config(served), sort_keys=False, width=1000)


def _config(served: _Served) -> Mapping[str, Yaml]:
    return {
        "proxy_location": "EveryNode" if served.is_on_every_node else "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "applications": [
            {
                "name": "dream",
                "route_prefix": "/",
                "import_path": "deployments.app:build_app",
                "args": {**served.args, "start_attempts": START_ATTEMPTS},
                "deployments": [
                    {
                        "name": "Ingress",
                        "num_replicas": served.num_ingresses,
                        "max_surge_percent": 100,
                    },
                    {"name": "DreamReplica", **_replicas(served)},
                ],
            }
        ],
    }


def _replicas(served: _Served) -> Mapping[str, Yaml]:
    """Health is asked for often, as a replica whose engine has died takes no calls until then."""
    found: dict[str, Yaml] = {"health_check_period_s": 2, "health_check_timeout_s": 10}
    if served.surge:
        found["max_surge_percent"] = min(100, 100 * served.surge // served.max_replicas)
    if served.min_replicas == served.max_replicas:
        return found | {"num_replicas": served.max_replicas}
    return found | {"autoscaling_config": _autoscaling(served)}


def _autoscaling(served: _Served) -> Mapping[str, Yaml]:
    return {
        "min_replicas": served.min_replicas,
        "max_replicas": served.max_replicas,
        "policy": {
            "policy_function": "deployments.autoscaling:BacklogPolicy",
            "policy_kwargs": {"target_seconds": TARGET_SECONDS},
        },
        "look_back_period_s": 30,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
    }
