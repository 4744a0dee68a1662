"""What can go wrong, told once: status, OpenAI error body, and whether a retry helps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from fastapi.responses import JSONResponse
from pydantic import ValidationError

from dream import SamplingParams
from dream.options import options_of

__all__ = ["KINDS", "ApiError", "Code", "error_response", "from_validation"]

Code = Literal[
    "compute_budget_exceeded",
    "context_length_exceeded",
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
    "timeout": Kind(504, "server_error", False),
}


class ApiError(Exception):
    """An answer that is an error; `message` never repeats what the caller sent."""

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
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


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


_CODES: Mapping[str, Code] = {
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
    "missing": "missing_required_parameter",
    "unsupported_parameter": "unsupported_parameter",
}

_MESSAGES: Mapping[str, str] = {
    "extra_forbidden": "This field is not known.",
    "json_invalid": "The body is not valid JSON.",
    "missing": "This field is required.",
    "model_type": "The body is a JSON object.",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def from_validation(invalid: ValidationError) -> ApiError:
    """The first thing wrong with a body, with the dotted path of its field as `param`."""
    first = invalid.errors(include_url=False, include_input=False)[0]
    kind = first["type"]
    location = first["loc"] or (first.get("ctx", {}).get("param", ""),)
    message = _MESSAGES.get(kind, first["msg"].rstrip(".") + ".")
    if kind == "extra_forbidden":
        message = _misplaced(location) or message
    return ApiError(_CODES.get(kind, "invalid_value"), message, param=_path(location))


def _misplaced(location: tuple[int | str, ...]) -> str | None:
    """Where a sampling parameter belongs that was sent on the wrong side of `diffusion`."""
    *place, name = location
    if name not in options_of(SamplingParams) or place not in ([], ["diffusion"]):
        return None
    return f"This field belongs {'beside' if place else 'in'} `diffusion`."


def _path(location: tuple[int | str, ...]) -> str | None:
    """Dotted path; a name no field could have ends it, so that a path never carries text."""
    parts: list[str] = []
    for part in location:
        if isinstance(part, str) and not _NAME.fullmatch(part):
            break
        parts.append(str(part))
    return ".".join(parts) or None
