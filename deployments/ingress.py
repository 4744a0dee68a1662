"""The HTTP front behind Serve: routes, and one handler for everything that can go wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from deployments.endpoints import Endpoints, IngressConfig
from deployments.errors import ApiError, Code, error_response
from deployments.replica_client import ServeReplicas

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Ingress", "build_api"]


def build_api(endpoints: Endpoints) -> FastAPI:
    """The routes over `endpoints`; also runs without Serve, as tests do."""
    api = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_exception,
            Exception: _on_unexpected,
        },
    )
    api.add_api_route("/health", endpoints.health, methods=["GET"])
    api.add_api_route("/ready", endpoints.ready, methods=["GET"])
    api.add_api_route("/v1/models", endpoints.models, methods=["GET"])
    api.add_api_route("/v1/models/{model_id:path}", endpoints.model, methods=["GET"])
    api.add_api_route("/v1/completions", endpoints.completions, methods=["POST"])
    api.add_api_route("/v1/infill", endpoints.infill, methods=["POST"])
    return api


@serve.ingress()
class Ingress:
    """`build_api` as a Serve deployment; Serve asks it for its app once it is constructed."""

    def __init__(self, replicas: DeploymentHandle[DreamReplica], config: IngressConfig) -> None:
        app_name = serve.get_replica_context().app_name
        self._replicas = ServeReplicas(replicas, app_name=app_name, clock=time.monotonic)
        self._config = config

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(Endpoints(self._replicas, self._config))


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
    message = f"The server failed; its log has the request id {_request_id(request)}."
    return error_response(ApiError("internal_error", message))


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def _request_id(request: Request) -> str:
    """The caller's x-request-id where it is a plain one; Serve answers and logs the same id."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
