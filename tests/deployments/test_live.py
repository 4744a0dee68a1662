"""Limits and presets that change while the app runs."""

from __future__ import annotations

import logging

import pytest
from starlette.testclient import TestClient

from deployments.app import AppArgs
from deployments.endpoints import Endpoints
from deployments.ingress import build_api
from deployments.live import LiveConfig, LiveConfigError, applied
from deployments.replica import ReplicaConfig
from dream import EngineConfig
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_api import COMPLETION, CONFIG, error_of

START = ReplicaConfig(model="m", engine=EngineConfig(), max_token_forwards=100)


def test_every_live_setting_is_an_argument_of_the_app():
    assert set(LiveConfig.model_fields) <= set(AppArgs.model_fields)


def test_each_part_takes_what_concerns_it():
    live = {"max_token_forwards": 5, "max_step_s": 7, "timeout_s": 9}

    replica, ingress = applied(START, START, live), applied(CONFIG, CONFIG, live)

    assert (replica.max_token_forwards, replica.max_step_s) == (5, 7)
    assert (ingress.max_token_forwards, ingress.timeout_s) == (5, 9)
    assert ingress.max_body_bytes == CONFIG.max_body_bytes


def test_what_is_left_out_is_as_at_the_start():
    changed = applied(START, START, {"max_token_forwards": 5})

    assert applied(START, changed, {"max_step_s": 7.0}).max_token_forwards == 100
    assert applied(START, changed, None) == START


@pytest.mark.parametrize(
    ("user_config", "words"),
    [
        ({"max_token_forward": 5}, "max_token_forward is none of body_timeout_s, max_body_bytes"),
        ({"timeout_s": 0}, "timeout_s=0 is not valid: Input should be greater than 0"),
        ({"preset": "nope"}, "preset='nope' is not valid"),
        ([1], "user_config=[1] is not valid"),
    ],
)
def test_a_wrong_one_is_named_logged_and_changes_nothing(user_config, words, caplog):
    changed = applied(START, START, {"max_token_forwards": 5})
    with pytest.raises(LiveConfigError) as refused:
        LiveConfig.read(user_config)
    assert words in str(refused.value)

    with caplog.at_level(logging.ERROR, logger="dream.live"):
        assert applied(START, changed, user_config) == changed

    assert words in caplog.text


def test_an_ingress_obeys_its_new_limits_from_the_next_request_on():
    endpoints = Endpoints(FakeReplicas(), CONFIG)
    with TestClient(build_api(endpoints), URL) as client:
        assert client.post("/v1/completions", json=COMPLETION).status_code == 200

        endpoints.reconfigure(applied(CONFIG, CONFIG, {"max_token_forwards": 8}))

        refused = client.post("/v1/completions", json=COMPLETION)
        assert error_of(refused) == (400, "compute_budget_exceeded", None)
        shown = client.get("/v1/models/org/dream").json()["limits"]["token_forwards"]
        assert shown == 8
