"""The Serve application: `serve run deployments.app:build_app model=PATH`.

Serve validates arguments against the annotation of the builder itself, so annotations here are
real classes: this module does without `from __future__ import annotations`.
"""

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from cluster.topology import replica_resources
from deployments.endpoints import IngressConfig
from deployments.ingress import Ingress
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig

__all__ = ["AppArgs", "build_app"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AppArgs(BaseModel):
    """Arguments of the app. How many replicas there are is Serve's own config: serve.yaml.

    model: checkpoint folder, hub id, or `embedded`. model_id: its name on the wire; by default
    the hub id, or the folder's name.
    max_num_batched_tokens: canvas rows of one forward: more for throughput, fewer for latency.
    max_logit_rows, max_cache_tokens, compile, cuda_graphs: as of `EngineConfig`.
    max_ongoing_requests: requests one replica works on; above it they wait, at most
    max_queued_requests of them at each ingress, and then are refused as overloaded.
    max_token_forwards: canvas tokens x steps of one request, over all prompts and choices.
    timeout_s: from the whole body to the answer. body_timeout_s: for the body to arrive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    model_id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    torch_threads: Count = 1
    max_num_batched_tokens: Count = 4096
    max_logit_rows: Count = 128
    max_cache_tokens: Annotated[int, Field(ge=0)] = 4096
    compile: bool = False
    cuda_graphs: bool = False
    max_ongoing_requests: Count = 64
    max_queued_requests: Count = 256
    max_token_forwards: Count = 2048 * 1024
    max_body_bytes: Count = 256 * 1024
    body_timeout_s: Seconds = 10.0
    timeout_s: Seconds = 600.0

    @property
    def served_id(self) -> str:
        """The model's name on the wire; never the path of a folder."""
        if self.model_id is not None:
            return self.model_id
        path = PurePath(self.model)
        return path.name if path.is_absolute() or self.model.startswith(".") else self.model


def build_app(args: AppArgs) -> serve.Application:
    """Ingress and engine replicas, bound and not started: no download, no Ray."""
    resources = replica_resources(device=args.device, num_cpus=args.num_cpus)
    replicas = serve.deployment(
        name="DreamReplica",
        ray_actor_options=resources.ray_actor_options,
        max_ongoing_requests=args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        graceful_shutdown_timeout_s=args.timeout_s,
    )(DreamReplica)
    ingress = serve.deployment(
        name="Ingress",
        max_ongoing_requests=INGRESS_REQUESTS,
        graceful_shutdown_timeout_s=args.timeout_s,
    )(Ingress)
    return ingress.bind(replicas.bind(_replica_config(args)), _ingress_config(args))


HEALTH_CHECK_PERIOD_S = 2.0
"""A replica whose engine has died answers 500 until Serve looks, so it looks often."""

INGRESS_REQUESTS = 4096
"""Far above what replicas take and queue: it is there that requests are refused."""


def _replica_config(args: AppArgs) -> ReplicaConfig:
    return ReplicaConfig(
        model=args.model,
        engine=EngineConfig(
            device=args.device,
            dtype=args.dtype,
            max_num_batched_tokens=args.max_num_batched_tokens,
            max_logit_rows=args.max_logit_rows,
            max_cache_tokens=args.max_cache_tokens,
            compile=args.compile,
            cuda_graphs=args.cuda_graphs,
        ),
        torch_threads=args.torch_threads,
        max_token_forwards=args.max_token_forwards,
    )


def _ingress_config(args: AppArgs) -> IngressConfig:
    return IngressConfig(
        model_id=args.served_id,
        max_body_bytes=args.max_body_bytes,
        body_timeout_s=args.body_timeout_s,
        timeout_s=args.timeout_s,
        max_token_forwards=args.max_token_forwards,
    )
