"""What can go wrong, told once: status, OpenAI error body, and whether a retry helps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from fastapi.responses import JSONResponse

__all__ = ["KINDS", "ApiError", "Code", "Kind", "error_body", "error_response"]

Code = Literal[
    "compute_budget_exceeded",
    "context_length_exceeded",
    "deadline_infeasible",
    "internal_error",
    "invalid_api_key",
    "invalid_json",
    "invalid_value",
    "method_not_allowed",
    "missing_required_parameter",
    "model_loading",
    "model_not_found",
    "not_found",
    "overloaded",
    "permission_denied",
    "queue_full_for_key",
    "rate_limit_exceeded",
    "replica_lost",
    "request_timeout",
    "request_too_large",
    "timeout",
    "unknown_parameter",
    "unsupported_media_type",
    "unsupported_parameter",
]


class Kind(NamedTuple):
    """The HTTP status and OpenAI type of a code; `can_retry` None leaves it to the client."""

    status: int
    type: str
    can_retry: bool | None


KINDS: Mapping[Code, Kind] = {
    "compute_budget_exceeded": Kind(400, "invalid_request_error", False),
    "context_length_exceeded": Kind(400, "invalid_request_error", False),
    "deadline_infeasible": Kind(400, "invalid_request_error", False),
    "invalid_json": Kind(400, "invalid_request_error", False),
    "invalid_value": Kind(400, "invalid_request_error", False),
    "missing_required_parameter": Kind(400, "invalid_request_error", False),
    "unknown_parameter": Kind(400, "invalid_request_error", False),
    "unsupported_parameter": Kind(400, "invalid_request_error", False),
    "invalid_api_key": Kind(401, "authentication_error", False),
    "permission_denied": Kind(403, "permission_error", False),
    "model_not_found": Kind(404, "invalid_request_error", False),
    "not_found": Kind(404, "invalid_request_error", False),
    "method_not_allowed": Kind(405, "invalid_request_error", False),
    "request_timeout": Kind(408, "invalid_request_error", None),
    "request_too_large": Kind(413, "invalid_request_error", False),
    "unsupported_media_type": Kind(415, "invalid_request_error", False),
    "queue_full_for_key": Kind(429, "rate_limit_error", True),
    "rate_limit_exceeded": Kind(429, "rate_limit_error", True),
    "internal_error": Kind(500, "server_error", True),
    "model_loading": Kind(503, "server_error", True),
    "overloaded": Kind(503, "server_error", True),
    "replica_lost": Kind(503, "server_error", True),
    "timeout": Kind(504, "server_error", False),
}


class ApiError(Exception):
    """An answer that is an error; `message` never repeats what the caller sent.

    The message begins with the field's path `param`, because clients print the message alone.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, message, param)
        self.code: Code = code
        self.message = message if param is None else f"{param}: {message}"
        self.param = param
        self.retry_after_s = retry_after_s


def error_body(error: ApiError) -> bytes:
    """The JSON of an error, for where no status can say it."""
    return bytes(error_response(error).body)


def error_response(error: ApiError) -> JSONResponse:
    """The one shape of every error: `{"error": {"message", "type", "param", "code"}}`."""
    kind = KINDS[error.code]
    headers: dict[str, str] = {}
    if kind.can_retry is not None:
        headers["x-should-retry"] = str(kind.can_retry).lower()
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
    if kind.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = {
        "message": error.message,
        "type": kind.type,
        "param": error.param,
        "code": error.code,
    }
    return JSONResponse({"error": body}, status_code=kind.status, headers=headers)
