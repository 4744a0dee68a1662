"""The HTTP front behind Serve: routes, and one handler for everything that can go wrong."""

from __future__ import annotations

import time
from types import MethodType
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from deployments.endpoints import Endpoints, IngressConfig
from deployments.errors import ApiError, error_response
from deployments.framework import on_http_exception, unexpected
from deployments.openapi import DOCS_ROUTES
from deployments.replica_client import ServeReplicas
from deployments.routes import ROUTES

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Ingress", "build_api"]


def build_api(endpoints: Endpoints, *, has_docs: bool = False) -> FastAPI:
    """The routes over `endpoints`; also runs without Serve, as tests do.

    has_docs: whether there are `/openapi.json` and `/docs`.
    """
    api = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: on_http_exception,
            Exception: _on_unexpected,
        },
    )
    for route in (*ROUTES, *(DOCS_ROUTES if has_docs else ())):
        methods: list[str] = ["GET", "HEAD"] if route.method == "GET" else [route.method]
        for path in (*route.also, route.path.replace("{model_id}", "{model_id:path}")):
            api.add_api_route(path, MethodType(route.handler, endpoints), methods=methods)
    return api


@serve.ingress()
class Ingress:
    """`build_api` as a Serve deployment; Serve asks it for its app once it is constructed."""

    def __init__(self, replicas: DeploymentHandle[DreamReplica], config: IngressConfig) -> None:
        app_name = serve.get_replica_context().app_name
        self._replicas = ServeReplicas(replicas, app_name=app_name, clock=time.monotonic)
        self._config = config

    def __serve_build_asgi_app__(self) -> FastAPI:
        endpoints = Endpoints(self._replicas, self._config)
        return build_api(endpoints, has_docs=self._config.has_docs)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """A bug or a dead replica: the caller gets an id, the log of this replica has the rest."""
    return error_response(unexpected(request))
