"""The HTTP front behind Serve: routes, and one handler for everything that can go wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from deployments.access_log import record_of, write_access_log
from deployments.endpoints import Endpoints, IngressConfig
from deployments.errors import ApiError, Code, error_response
from deployments.exposure import check_exposure, serve_host
from deployments.gate import LOOPBACK_ONLY, Gate, GateConfig, with_cors
from deployments.replica_client import ServeReplicas

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Ingress", "build_api"]


class _Api(FastAPI):
    """FastAPI behind a gate: its own handling of errors is inside it too."""

    gate: Gate
    cors_origins: tuple[str, ...]

    def build_middleware_stack(self) -> ASGIApp:
        return with_cors(self.gate.around(super().build_middleware_stack()), self.cors_origins)


def build_api(
    endpoints: Endpoints, gate: GateConfig = LOOPBACK_ONLY, *, sends_request_id: bool = True
) -> FastAPI:
    """The routes over `endpoints`, behind the gate; also runs without Serve, as tests do."""
    write_access_log()
    api = _Api(
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_exception,
            Exception: _on_unexpected,
        },
    )
    api.gate = Gate(gate, sends_request_id=sends_request_id)
    api.cors_origins = gate.cors_origins
    api.add_api_route("/health", endpoints.health, methods=["GET"])
    api.add_api_route("/ready", endpoints.ready, methods=["GET"])
    api.add_api_route("/v1/models", endpoints.models, methods=["GET"])
    api.add_api_route("/v1/models/{model_id:path}", endpoints.model, methods=["GET"])
    api.add_api_route("/v1/completions", endpoints.completions, methods=["POST"])
    api.add_api_route("/v1/infill", endpoints.infill, methods=["POST"])
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
        self._replicas = ServeReplicas(replicas, app_name=app_name, clock=time.monotonic)
        self._config = config
        self._gate = gate

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(
            Endpoints(self._replicas, self._config), self._gate, sends_request_id=False
        )


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


_FRAMEWORK_ERRORS: Mapping[int, tuple[Code, str]] = {
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not take this method."),
}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: no route, wrong method."""
    assert isinstance(error, HTTPException)
    code, message = _FRAMEWORK_ERRORS.get(
        error.status_code, ("invalid_value", "The request is not valid HTTP for this server.")
    )
    response = error_response(ApiError(code, message))
    response.headers.update(error.headers or {})
    return response


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """A bug or a dead replica: the caller gets an id, the log of this replica has the rest."""
    message = f"The server failed; its log has the request id {record_of(request).id}."
    return error_response(ApiError("internal_error", message))
