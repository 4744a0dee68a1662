"""A server that notes when requests of one step reach each stage; everything else is as served.

`time.monotonic` is one clock for all processes of a Linux machine. Probes follow each other one by
one, so the n-th time of every stage belongs to the n-th probe.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ray import serve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.canvas_stream import CanvasStream
from deployments.endpoints import Endpoints
from deployments.failover import Item
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.messages import CanvasRequest, CanvasResult, Refusal, View
from deployments.model_card import IngressConfig
from deployments.replica import DreamReplica, ReplicaConfig
from deployments.replica_client import ServeReplicas
from dream import Completion, Engine, Request, StepEvent
from dream.engine.warm import made_apart

__all__ = ["PROBE", "StagedIngress", "StagedReplica"]

PROBE = "probe"
"""How the `x-request-id` of a probe begins."""

Times = dict[str, list[float]]


class _Clock:
    """Times of each stage, in the order of the probes."""

    def __init__(self) -> None:
        self.times: Times = defaultdict(list)

    def note(self, stage: str) -> None:
        self.times[stage].append(time.monotonic())


class _StagedReplicas(ServeReplicas):
    def __init__(
        self, handle: DeploymentHandle[DreamReplica], app_name: str, clock: _Clock
    ) -> None:
        super().__init__(handle, app_name=app_name, clock=time.monotonic)
        self._stages = clock

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        if not _is_probe(messages):
            return await super().generate(messages)
        self._stages.note("call")
        done = await super().generate(messages)
        self._stages.note("answered")
        return done


@serve.ingress()
class StagedIngress:
    """As `deployments.ingress.Ingress`."""

    def __init__(
        self, replicas: DeploymentHandle[DreamReplica], config: IngressConfig, gate: GateConfig
    ) -> None:
        self._clock = _Clock()
        app_name = serve.get_replica_context().app_name
        self._replicas = _StagedReplicas(replicas, app_name, self._clock)
        self._config = config
        self._gate = gate

    def __serve_build_asgi_app__(self) -> ASGIApp:
        endpoints = Endpoints(self._replicas, self._config)
        return _noting(build_api(endpoints, self._gate, sends_request_id=False), self._clock)

    def take_times(self) -> Times:
        """The times since the last call."""
        taken, self._clock.times = self._clock.times, defaultdict(list)
        return dict(taken)


class _StagedEngine(Engine):
    clock: _Clock

    def add(self, request: Request, so_far: Sequence[StepEvent] = ()) -> None:
        if request.params.steps == 1:
            self.clock.note("admitted")
        super().add(request, so_far)

    def collect(self) -> list[Completion]:
        done = super().collect()
        for completion in done:
            if completion.usage.steps == 1:
                self.clock.note("stepped")
        return done


class StagedReplica(DreamReplica):
    """As `DreamReplica`."""

    def load(self, config: ReplicaConfig) -> Engine:
        """The engine; the first requests warm it."""
        self._clock = _Clock()
        engine = made_apart(lambda: _StagedEngine.from_pretrained(config.model, config.engine))
        assert isinstance(engine, _StagedEngine)
        engine.clock = self._clock
        return engine

    async def stream(
        self,
        messages: Sequence[CanvasRequest],
        view: View | None,
        caller: ActorHandle[object] | None = None,
    ) -> AsyncGenerator[Item]:
        """Every canvas filled."""
        if _is_probe(messages):
            self._clock.note("replica")
        async with aclosing(super().stream(messages, view, caller)) as items:
            async for item in items:
                if _is_probe(messages):
                    self._clock.note("filled")
                yield item

    def take_times(self) -> Times:
        """The times since the last call."""
        taken, self._clock.times = self._clock.times, defaultdict(list)
        return dict(taken)

    async def _admit(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> list[CanvasStream] | Refusal:
        streams = await super()._admit(messages, view)
        if _is_probe(messages):
            self._clock.note("encoded")
        return streams


def _is_probe(messages: Sequence[CanvasRequest]) -> bool:
    return messages[0].params.steps == 1


def _noting(app: ASGIApp, clock: _Clock) -> ASGIApp:
    """The app; it notes when a probe arrives, when its body is here and when all is sent."""

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        ids = [value for name, value in scope.get("headers", ()) if name == b"x-request-id"]
        if not ids or not ids[0].startswith(PROBE.encode()):
            await app(scope, receive, send)
            return
        clock.note("ingress")

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                clock.note("body")
            return message

        async def sent(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                clock.note("responded")

        await app(scope, received, sent)

    return noting
