from __future__ import annotations

import json
from typing import get_args

import pytest

from deployments.errors import KINDS, ApiError, Code, error_response

STATUSES = {
    "compute_budget_exceeded": 400,
    "context_length_exceeded": 400,
    "deadline_infeasible": 400,
    "internal_error": 500,
    "invalid_api_key": 401,
    "invalid_json": 400,
    "invalid_value": 400,
    "method_not_allowed": 405,
    "missing_required_parameter": 400,
    "model_loading": 503,
    "model_not_found": 404,
    "not_found": 404,
    "overloaded": 503,
    "permission_denied": 403,
    "queue_full_for_key": 429,
    "rate_limit_exceeded": 429,
    "replica_lost": 503,
    "request_timeout": 408,
    "request_too_large": 413,
    "timeout": 504,
    "unknown_parameter": 400,
    "unsupported_media_type": 415,
    "unsupported_parameter": 400,
}


TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def test_every_code_has_a_kind():
    assert set(KINDS) == set(get_args(Code)) == set(STATUSES)


@pytest.mark.parametrize("code", get_args(Code))
def test_every_error_has_the_one_shape(code):
    response = error_response(ApiError(code, "message", param="a.b"))

    error = json.loads(response.body)["error"]
    expected_type = "server_error" if STATUSES[code] >= 500 else "invalid_request_error"
    expected_type = TYPES.get(STATUSES[code], expected_type)
    assert response.status_code == STATUSES[code]
    assert error == {"message": "a.b: message", "type": expected_type, "param": "a.b", "code": code}


@pytest.mark.parametrize(
    ("code", "should_retry"),
    [
        ("invalid_value", "false"),
        ("request_timeout", None),
        ("internal_error", "true"),
        ("overloaded", "true"),
        ("rate_limit_exceeded", "true"),
        ("queue_full_for_key", "true"),
        ("invalid_api_key", "false"),
        ("timeout", "false"),
    ],
)
def test_clients_are_told_whether_a_retry_helps(code, should_retry):
    assert error_response(ApiError(code, "m")).headers.get("x-should-retry") == should_retry


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.25, ("1", "250")), (1.4, ("2", "1400")), (0.0001, ("1", "1"))]
)
def test_a_wait_is_told_in_seconds_and_in_milliseconds_and_never_less_than_it_is(seconds, told):
    headers = error_response(ApiError("overloaded", "m", retry_after_s=seconds)).headers

    assert (headers["retry-after"], headers["retry-after-ms"]) == told
