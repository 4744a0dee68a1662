"""The Serve application: `serve run deployments.app:build_app model=PATH`.

Serve validates arguments against the annotation of the builder itself, so annotations here are
real classes: this module does without `from __future__ import annotations`.
"""

import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Self

import click
import ray
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from ray import serve
from ray.serve.config import RequestRouterConfig

from cluster.topology import replica_resources
from deployments.fields import PresetName, with_options
from deployments.gate import GateConfig
from deployments.ingress import Ingress
from deployments.key_file import read_keys
from deployments.model_card import IngressConfig
from deployments.replica import DreamReplica, ReplicaConfig
from deployments.router import ROUTER
from dream import DreamError, EngineConfig, InvalidRequest
from dream.dtypes import QUANTIZED
from dream.memory import check_degree
from dream.model.config import read_config
from dream.model.loader import checkpoint_files, resolve
from dream.model.quantize import check_quantizer
from dream.options import options_of

__all__ = ["AppArgs", "AppError", "bind_app", "build_app"]

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
HostName = Annotated[str, Field(pattern=r"^([a-z0-9.-]+|\[[0-9a-f:.]+\])$")]
Origin = Annotated[str, Field(pattern=r"^https?://[^/*\s]+$")]


def _words(value: object) -> object:
    """A command line gives a list as words between commas."""
    return tuple(value.split(",")) if isinstance(value, str) else value


class AppError(DreamError, click.ClickException):
    """An app that cannot be served as asked: the command line prints its message and ends."""


@with_options(EngineConfig)
class AppArgs(BaseModel):
    """Arguments of the app: these, and every setting of `EngineConfig` under its own name.

    model: checkpoint folder, hub id, or `embedded`. model_id: its name in requests; by default
    the hub id, or the folder's name. preset: published defaults for what requests leave out; none
    shows and applies no preset. num_cpus: what a replica asks of Ray, and each rank with
    tensor_parallel; `threads` follows it.
    max_ongoing_requests: requests one replica works on; above it they wait, at most
    max_queued_requests of them at each ingress, and then are refused as overloaded.
    max_token_forwards: canvas tokens x steps of one request, over all prompts and choices.
    timeout_s: from the whole body to the answer. body_timeout_s: for the body to arrive.
    keys: file of the API keys (`python -m deployments.keys`); without one only this machine may
    call, unless insecure_no_auth. allowed_hosts: names in `Host` beside those of the loopback.
    cors_origins: web pages that may call, none by default.
    docs: whether `/openapi.json` and `/docs` are served.
    start_attempts: replicas that may fail to start before the deployment has failed.
    max_step_s: age of a running step at which a replica is stalled and is replaced.
    max_surge_percent: replicas that a redeploy may start before it stops as many old ones.
    A `user_config` changes limits, timeouts and the preset of a running app: docs/scaling.md.
    How many replicas there are is Serve's own config: deployments/serve/.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    model_id: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    preset: PresetName | None = None
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    start_attempts: Count = 1
    max_ongoing_requests: Count = 1024
    max_queued_requests: Count = 256
    max_token_forwards: Count = 2048 * 1024
    max_body_bytes: Count = 256 * 1024
    body_timeout_s: Seconds = 10.0
    timeout_s: Seconds = 600.0
    max_step_s: Seconds = 120.0
    max_surge_percent: Annotated[int, Field(ge=0, le=100)] = 0
    keys: Annotated[str, Field(min_length=1)] | None = None
    insecure_no_auth: bool = False
    allowed_hosts: Annotated[tuple[HostName, ...], BeforeValidator(_words)] = ()
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_words)] = ()
    docs: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(cls, values: object, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as invalid:
            raise AppError(_first_error(invalid, tuple(cls.model_fields))) from None

    @property
    def served_id(self) -> str:
        """The model's name in requests; never the path of a folder."""
        if self.model_id is not None:
            return self.model_id
        path = PurePath(self.model)
        return path.name if path.is_absolute() or self.model.startswith(".") else self.model

    @property
    def gate(self) -> GateConfig:
        """Who may call; AppError where keys are given and not wanted."""
        if self.keys is not None and self.insecure_no_auth:
            raise AppError("insecure_no_auth=true beside keys: leave one of the two out")
        return GateConfig(
            keys=None if self.keys is None else os.path.abspath(os.path.expanduser(self.keys)),
            allowed_hosts=self.allowed_hosts,
            cors_origins=self.cors_origins,
            insecure_no_auth=self.insecure_no_auth,
        )

    @property
    def engine(self) -> EngineConfig:
        """The engine's settings; AppError says which of them cannot be served."""
        names = set(options_of(EngineConfig))
        try:
            config = EngineConfig(**self.model_dump(include=names))
            if config.device not in ("cpu", "cuda"):
                raise InvalidRequest("device", config.device, "cpu or cuda: Ray chooses the GPU")
        except InvalidRequest as invalid:
            raise AppError(str(invalid)) from None
        return replace(config, threads=config.threads or max(1, int(self.num_cpus)))


def build_app(args: AppArgs) -> serve.Application:
    """Ingress and engine replicas, bound and not started: no download, no Ray.

    AppError says what is wrong with the arguments, and with what this machine is to serve.
    """
    if not _is_for_a_cluster():
        _check_this_machine(args.model, args.engine)
        _check_keys(args.gate)
    return bind_app(args, DreamReplica, Ingress)


def bind_app(
    args: AppArgs, replica: type[DreamReplica], front: type, num_replicas: int = 1
) -> serve.Application:
    """The app of a replica and an ingress class, unchecked; those of a benchmark may differ."""
    engine = args.engine
    resources = replica_resources(
        device="cuda" if engine.device == "cuda" else "cpu",
        tensor_parallel=engine.tensor_parallel,
        num_cpus=args.num_cpus,
    )
    replicas = serve.deployment(
        name="DreamReplica",
        ray_actor_options=resources.ray_actor_options,
        placement_group_bundles=resources.placement_group_bundles,  # type: ignore[arg-type]
        placement_group_strategy=resources.placement_group_strategy,  # type: ignore[arg-type]
        max_ongoing_requests=args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        request_router_config=RequestRouterConfig.model_validate(ROUTING),
        graceful_shutdown_timeout_s=args.timeout_s,
        max_surge_percent=args.max_surge_percent,
        max_constructor_retry_count=args.start_attempts,
    )(replica)
    if num_replicas > 1:
        replicas = replicas.options(num_replicas=num_replicas)
    ingress = serve.deployment(
        name="Ingress",
        max_ongoing_requests=INGRESS_REQUESTS,
        graceful_shutdown_timeout_s=args.timeout_s,
        max_surge_percent=args.max_surge_percent,
        max_constructor_retry_count=args.start_attempts,
    )(front)
    replica_config = ReplicaConfig(
        model=args.model,
        engine=engine,
        max_token_forwards=args.max_token_forwards,
        timeout_s=args.timeout_s,
        max_step_s=args.max_step_s,
    )
    return ingress.bind(replicas.bind(replica_config), _ingress_config(args), args.gate)


HEALTH_CHECK_PERIOD_S = 2.0
"""A replica whose engine has died takes no calls until Serve looks, so it looks often."""

ROUTING = {"request_router_class": ROUTER, "request_routing_stats_period_s": 1.0}
"""What an ingress knows of the work of others is about so old."""

INGRESS_REQUESTS = 4096
"""Far above what replicas take and queue, because requests are refused there and not here."""


def _ingress_config(args: AppArgs) -> IngressConfig:
    return IngressConfig(
        model_id=args.served_id,
        max_body_bytes=args.max_body_bytes,
        body_timeout_s=args.body_timeout_s,
        timeout_s=args.timeout_s,
        max_token_forwards=args.max_token_forwards,
        preset=args.preset,
        has_docs=args.docs,
    )


def _first_error(invalid: ValidationError, names: tuple[str, ...]) -> str:
    errors = invalid.errors(include_url=False)
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{name} is missing: write {name}=..."
    if first["type"] == "extra_forbidden":
        return f"{name} is no argument of this app: there are {', '.join(sorted(names))}"
    return f"{name}={first['input']!r} is not valid: {first['msg']}"


def _is_for_a_cluster() -> bool:
    """Whether replicas may start on other machines, which have their own folders and GPUs."""
    return ray.is_initialized() or "RAY_ADDRESS" in os.environ


def _check_this_machine(model: str, engine: EngineConfig) -> None:
    """AppError for a checkpoint that is not there, is none, or has no GPU or package to run on."""
    try:
        if engine.dtype in QUANTIZED:
            check_quantizer(engine.dtype)
        if model == "embedded" or Path(model).is_dir() or model.startswith((".", "/", "~")):
            folder = resolve(model)
            check_degree(read_config(folder).sizes, engine.tensor_parallel)
            checkpoint_files(folder)
        else:
            _check_hub_id(model)
    except (DreamError, HFValidationError, OSError) as error:
        raise AppError(f"model={model!r} cannot be served: {error}{ELSEWHERE}") from None
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise AppError(f"device='cuda': torch finds no CUDA device on this machine{ELSEWHERE}")


def _check_keys(gate: GateConfig) -> None:
    """AppError for a key file that is not there or not right."""
    try:
        if gate.keys is not None:
            read_keys(Path(gate.keys))
    except DreamError as error:
        raise AppError(f"{error}{ELSEWHERE}") from None


def _check_hub_id(model: str) -> None:
    validate_repo_id(model)
    if "/" not in model:
        raise HFValidationError("no such folder, and a Hub id is written org/name")


ELSEWHERE = " (for a cluster, set RAY_ADDRESS: its machines are checked when replicas start)"
