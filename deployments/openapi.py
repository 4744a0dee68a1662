"""The OpenAPI specification: made of the routes, their wire models and the table of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from itertools import groupby
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from deployments.docs_page import SECURITY_POLICY, docs_page
from deployments.endpoints import Endpoints
from deployments.errors import KINDS, Code
from deployments.routes import ROUTES, Route

__all__ = ["docs_routes", "specification"]

Json = dict[str, Any]
Schemas = Mapping[tuple[str, JsonSchemaMode], Json]

_REFS = "#/components/schemas/{model}"

_MODEL_ID = {
    "name": "model_id",
    "in": "path",
    "required": True,
    "description": "An id of GET /v1/models; it may have slashes",
    "schema": {"type": "string", "minLength": 1},
}

_OF_KEYS: tuple[Code, ...] = ("invalid_api_key", "queue_full_for_key", "rate_limit_exceeded")

_TEXT = {"schema": {"type": "string"}}
_REQUEST_ID = {"x-request-id": {"description": "The request's own, or a new one", **_TEXT}}
_RETRY = {"x-should-retry": {"description": "Whether a retry helps", **_TEXT}}
_WAIT = {
    "retry-after": {"description": "Seconds to wait", **_TEXT},
    "retry-after-ms": {"description": "Milliseconds to wait", **_TEXT},
}


def specification(routes: Sequence[Route], *, needs_key: bool = False) -> Json:
    """The specification of an app with these routes; needs_key: whether callers need a key."""
    made, definitions = models_json_schema(_models(routes), ref_template=_REFS)
    schemas = {(model.__name__, mode): schema for (model, mode), schema in made.items()}
    paths: dict[str, Json] = {}
    for route in routes:
        path = paths.setdefault(route.path, {})
        if "{model_id}" in route.path:
            path["parameters"] = [_MODEL_ID]
        path[route.method.lower()] = _operation(route, schemas, needs_key)
        if route.method == "GET":
            path["head"] = _head(path["get"])
    everywhere: tuple[Code, ...] = ("not_found", "method_not_allowed")
    components: Json = {"schemas": definitions.get("$defs", {})}
    components["responses"] = _error_responses(everywhere)
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "dream-cluster", "version": version("dream-cluster")},
        "paths": paths,
        "components": components,
    }


def _models(routes: Iterable[Route]) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    found: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for route in routes:
        if route.request is not None:
            found[route.request, "validation"] = None
        if route.response is not None:
            found[route.response, "serialization"] = None
        if route.chunk is not None:
            found[route.chunk, "serialization"] = None
    return list(found)


def _operation(route: Route, schemas: Schemas, needs_key: bool) -> Json:
    body = {} if route.response is None else schemas[route.response.__name__, "serialization"]
    content: Json = {route.media_type: {"schema": body}}
    if route.chunk is not None:  # OpenAPI 3.1 has no word for the schema of an event
        event = schemas[route.chunk.__name__, "serialization"]
        content["text/event-stream"] = {"x-event-schema": event}
    success = {"description": "Success", "headers": _REQUEST_ID, "content": content}
    operation: Json = {"operationId": route.handler.__name__, "summary": route.summary}
    if route.request is not None:
        schema = schemas[route.request.__name__, "validation"]
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    refusals: tuple[Code, ...] = ()
    if not route.is_open:
        refusals = ("permission_denied", *(_OF_KEYS if needs_key else ()))
    errors = _error_responses((*route.errors, *refusals, "internal_error"))
    operation["responses"] = {"200": success} | errors
    if needs_key and not route.is_open:
        operation["security"] = [{"key": []}]
    return operation


def _head(get: Json) -> Json:
    """The same statuses and headers, without bodies."""
    responses = {
        status: {key: value for key, value in response.items() if key != "content"}
        for status, response in get["responses"].items()
    }
    return {**get, "operationId": f"head_{get['operationId']}", "responses": responses}


def _error_responses(codes: Iterable[Code]) -> Json:
    """One response for each status, with all of the codes that it may have."""

    def status(code: Code) -> int:
        return KINDS[code].status

    by_status = groupby(sorted(set(codes), key=lambda code: (status(code), code)), status)
    return {str(number): _error_response(tuple(found)) for number, found in by_status}


def _error_response(codes: tuple[Code, ...]) -> Json:
    kinds = [KINDS[code] for code in codes]
    headers = dict(_REQUEST_ID)
    if any(kind.can_retry is not None for kind in kinds):
        headers |= _RETRY
    if kinds[0].status in (429, 503):
        headers |= _WAIT
    if kinds[0].status == 401:
        headers |= {"www-authenticate": {"description": "Bearer", **_TEXT}}
    if kinds[0].status == 405:
        headers |= {"allow": {"description": "The methods that the path takes", **_TEXT}}
    fields = {
        "message": {"type": "string", "description": "Names the field and what is allowed"},
        "type": {"enum": sorted({kind.type for kind in kinds})},
        "param": {"type": ["string", "null"], "description": "The dotted path of the field"},
        "code": {"enum": list(codes)},
    }
    body = _object({"error": _object(fields)})
    content = {"application/json": {"schema": body}}
    return {"description": ", ".join(codes), "headers": headers, "content": content}


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@cache
def docs_routes(*, needs_key: bool) -> tuple[Route, ...]:
    """The specification and its page; needs_key: whether callers of the app need a key."""

    @cache
    def served() -> Json:
        return specification((*ROUTES, *routes), needs_key=needs_key)

    async def _openapi(endpoints: Endpoints) -> Response:
        return JSONResponse(served())

    async def _docs(endpoints: Endpoints) -> Response:
        headers = {"content-security-policy": SECURITY_POLICY, "x-content-type-options": "nosniff"}
        return Response(docs_page(served()), media_type="text/html; charset=utf-8", headers=headers)

    routes = (
        Route(
            method="GET",
            path="/openapi.json",
            handler=_openapi,
            summary="This specification",
        ),
        Route(
            method="GET",
            path="/docs",
            handler=_docs,
            summary="This specification as a page",
            media_type="text/html",
        ),
    )
    return routes
