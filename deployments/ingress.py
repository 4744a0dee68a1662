"""The HTTP front behind Serve: routes, and one handler for everything that can go wrong."""

from __future__ import annotations

import time
from types import MethodType
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from deployments.access_log import record_of, write_access_log
from deployments.disconnects import with_disconnects
from deployments.endpoints import Endpoints
from deployments.errors import ApiError, error_response
from deployments.exposure import check_exposure, serve_host
from deployments.framework import on_http_exception, unexpected
from deployments.gate import LOOPBACK_ONLY, Gate, GateConfig, with_cors
from deployments.live import applied
from deployments.metric_sinks import MetricSink
from deployments.model_card import IngressConfig
from deployments.openapi import docs_routes
from deployments.replica_client import ServeReplicas
from deployments.routes import ROUTES

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Ingress", "build_api"]


class _Api(FastAPI):
    """FastAPI behind a gate: its own handling of errors is inside it too."""

    gate: Gate
    cors_origins: tuple[str, ...]

    def build_middleware_stack(self) -> ASGIApp:
        app = self.gate.around(super().build_middleware_stack())
        return with_disconnects(with_cors(app, self.cors_origins))


def build_api(
    endpoints: Endpoints,
    gate: GateConfig = LOOPBACK_ONLY,
    *,
    has_docs: bool = False,
    sends_request_id: bool = True,
    metrics: MetricSink | None = None,
) -> FastAPI:
    """The routes over `endpoints`, behind the gate; also runs without Serve, as tests do.

    has_docs: whether there are `/openapi.json` and `/docs`.
    """
    write_access_log()
    api = _Api(
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: on_http_exception,
            Exception: _on_unexpected,
        },
    )
    api.gate = Gate(gate, sends_request_id=sends_request_id, metrics=metrics)
    api.cors_origins = gate.cors_origins
    docs = docs_routes(needs_key=gate.keys is not None) if has_docs else ()
    for route in (*ROUTES, *docs):
        methods: list[str] = ["GET", "HEAD"] if route.method == "GET" else [route.method]
        for path in (*route.also, route.path.replace("{model_id}", "{model_id:path}")):
            api.add_api_route(path, MethodType(route.handler, endpoints), methods=methods)
    return api


@serve.ingress()
class Ingress:
    """`build_api` as a Serve deployment; Serve asks it for its app once it is constructed.

    Exposed where Serve listens beyond the loopback and nobody needs a key.
    """

    def __init__(
        self, replicas: DeploymentHandle[DreamReplica], config: IngressConfig, gate: GateConfig
    ) -> None:
        check_exposure(serve_host(), gate)
        app_name = serve.get_replica_context().app_name
        front = ServeReplicas(replicas, app_name=app_name, clock=time.monotonic)
        self._endpoints = Endpoints(front, config)
        self._start = self._config = config
        self._gate = gate

    def reconfigure(self, user_config: object) -> None:
        """Changed limits and presets; what is not valid is logged and changes nothing."""
        self._config = applied(self._start, self._config, user_config)
        self._endpoints.reconfigure(self._config)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(
            self._endpoints,
            self._gate,
            has_docs=self._config.has_docs,
            sends_request_id=False,
        )


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    record_of(request).error = error.code
    return error_response(error)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """A bug or a dead replica: the caller gets an id, the log of this replica has the rest."""
    return error_response(unexpected(request))
