"""The specification against the app, by requests that schemathesis makes of the specification."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import positive_data_acceptance

from deployments.endpoints import Endpoints
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.model_card import IngressConfig
from tests.deployments.fakes import FakeReplicas

CONFIG = IngressConfig(
    model_id="m",
    max_body_bytes=2**18,
    body_timeout_s=10,
    timeout_s=10,
    max_token_forwards=10**9,
)
ANY_HOST = GateConfig(insecure_no_auth=True)
APP = build_api(Endpoints(FakeReplicas(), CONFIG), ANY_HOST, has_docs=True)
SPEC = schemathesis.openapi.from_asgi("/openapi.json", APP)
OPERATIONS = [result.ok() for result in SPEC.get_all_operations()]
WITH_BODY = [each for each in OPERATIONS if each.method == "post"]

SEEDED = settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

FIELDS_TOGETHER = (
    r"diffusion\.\w+|segments(\.\d+)?|max_completion_tokens|stream_options|messages|top_logprobs"
    r"|prompt|random_seed"
)
"""Fields that may be refused for what stands beside them, which no schema says."""


def whole_numbers(value: Any) -> Any:
    """4.0 as 4: a JSON schema cannot tell them apart, and this API takes integers as such."""
    if isinstance(value, dict):
        return {key: whole_numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [whole_numbers(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_what_the_specification_allows_is_answered_as_it_says(operation):
    @seed(1)
    @SEEDED
    @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Case) -> None:
        if isinstance(case.body, dict):
            case.body = whole_numbers(case.body) | {"model": CONFIG.model_id}
        response = case.call()
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        if response.status_code == 400:
            error = response.json()["error"]
            assert error["code"] == "invalid_value"
            assert re.fullmatch(FIELDS_TOGETHER, error["param"])

    check()


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda each: each.label)
def test_what_the_specification_does_not_allow_is_refused_as_it_says(operation):
    @seed(1)
    @SEEDED
    @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: Case) -> None:
        case.call_and_validate()

    check()
