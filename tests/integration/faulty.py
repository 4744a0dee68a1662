"""An app of its own whose processes are killed and stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray.actor import ActorHandle

from deployments.app import AppArgs, build_app
from deployments.probes import replica_actors

APP = "faulty"


def until(is_so: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def deploy(
    num_replicas: int,
    num_ingresses: int = 1,
    timeout_s: float = 300.0,
    tensor_parallel: int = 1,
    front: str | None = None,
    is_spread: bool = False,
) -> None:
    """The app with so many of each, at its own path.

    front: a resource of the node where the ingress runs. is_spread: not two of a kind on a node.
    """
    app = build_app(
        AppArgs(
            model="embedded", timeout_s=timeout_s, num_cpus=0.5, tensor_parallel=tensor_parallel
        )
    )
    ingress = app._bound_deployment
    replicas = ingress.init_args[0]._bound_deployment
    replicas._deployment_config.num_replicas = num_replicas
    ingress._deployment_config.num_replicas = num_ingresses
    if is_spread:
        ingress._replica_config.max_replicas_per_node = 1
        replicas._replica_config.max_replicas_per_node = 1
    if front is not None:
        ingress._replica_config.update(ray_actor_options={"resources": {front: 0.01}})
    serve.run(app, name=APP, route_prefix=f"/{APP}")


@contextmanager
def deployed(num_replicas: int, num_ingresses: int = 1, tensor_parallel: int = 1) -> Iterator[None]:
    deploy(num_replicas, num_ingresses, tensor_parallel=tensor_parallel)
    try:
        yield
    finally:
        serve.delete(APP)


def processes(deployment: str) -> dict[int, ActorHandle[object]]:
    """The actors of a deployment by the ids of their processes."""
    found = {}
    for actor in replica_actors(APP, deployment):
        try:
            found[ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=30)] = actor
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            continue
    return found


def num_under_way(replica: ActorHandle[object]) -> int:
    """Calls that a replica works on, as Serve counts them."""
    number: int = ray.get(replica.get_num_ongoing_requests.remote(), timeout=30)
    return number


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
