"""The routes over replicas that fill holes with letters: HTTP without Serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from deployments.endpoints import Endpoints
from deployments.errors import ApiError
from deployments.ingress import build_api
from deployments.messages import Refusal
from deployments.model_card import IngressConfig
from tests.deployments.fakes import URL, FakeReplicas

CONFIG = IngressConfig(
    model_id="org/dream",
    max_body_bytes=1000,
    body_timeout_s=0.2,
    timeout_s=0.2,
    max_token_forwards=1000,
)
COMPLETION = {"model": "org/dream", "prompt": "p", "max_tokens": 3}
INFILL = {"model": "org/dream", "segments": [{"text": "a"}, {"hole": 2, "id": "x"}]}


@pytest.fixture
def replicas() -> FakeReplicas:
    return FakeReplicas()


@pytest.fixture
def client(replicas) -> Iterator[TestClient]:
    endpoints = Endpoints(replicas, CONFIG, clock=lambda: 123.9, draw_seed=lambda: 42)
    with TestClient(build_api(endpoints), URL, raise_server_exceptions=False) as client:
        yield client


def error_of(response) -> tuple[int, str, str | None]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return response.status_code, body["error"]["code"], body["error"]["param"]


def test_a_completion_has_openais_shape(client):
    answer = client.post("/v1/completions", json=COMPLETION).json()

    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert (answer["created"], answer["model"]) == (123, "org/dream")
    assert answer["choices"][0]["text"] == "AAA"
    assert answer["choices"][0]["finish_reason"] == "length"


def test_an_infill_returns_whole_text_and_spans(client):
    answer = client.post("/v1/infill", json=INFILL).json()

    assert answer["object"] == "infill"
    assert answer["choices"][0]["text"] == "aAA"
    assert answer["choices"][0]["spans"] == [
        {"id": "x", "text": "AA", "tokens": 2, "logprobs": None}
    ]


def test_a_seed_is_drawn_only_where_none_is_given(client, replicas):
    drawn = client.post("/v1/completions", json=COMPLETION).json()
    given = client.post("/v1/completions", json=COMPLETION | {"seed": 7}).json()

    assert [a["choices"][0]["diffusion"]["seed"] for a in (drawn, given)] == [42, 7]
    assert [message.params.seed for message in replicas.messages] == [42, 7]


def test_models_shows_the_one_model_with_its_limits(client):
    (card,) = client.get("/v1/models").json()["data"]

    assert client.get("/v1/models/org/dream").json() == card
    assert (card["id"], card["object"], card["max_model_len"]) == ("org/dream", "model", 512)
    assert card["limits"]["steps"] == 2048
    assert card["limits"]["hole_tokens"] == 512
    assert card["limits"]["segments"] == 256
    assert card["limits"]["body_bytes"] == 1000
    assert card["capabilities"]["infill"] is True


def test_the_defaults_shown_are_those_that_hold(client, replicas):
    shown = client.get("/v1/models/org/dream").json()["defaults"]
    client.post("/v1/completions", json={"model": "org/dream", "prompt": "p"})
    client.post("/v1/completions", json={"model": "org/dream", "prompt": "p"} | shown)

    bare, spelled = replicas.messages
    assert bare.template == spelled.template
    assert bare.params == spelled.params


def test_a_recognised_preset_is_shown_and_taken_only_when_it_is_named(client, replicas):
    replicas.preset = "dream-v0-instruct"
    shown = client.get("/v1/models/org/dream").json()
    client.post("/v1/completions", json=COMPLETION)
    named = COMPLETION | {"temperature": 0.5, "diffusion": {"preset": "dream-v0-instruct"}}
    client.post("/v1/completions", json=named)

    without, by_preset = (message.params for message in replicas.messages)
    assert shown["preset"]["sampling"]["top_p"] == 0.9
    assert shown["preset"]["source"].startswith("DreamLM/Dream@")
    assert shown["preset"]["is_default"] is False
    assert (without.temperature, without.top_p) == (0, None)
    assert (by_preset.temperature, by_preset.top_p) == (0.5, 0.9)


def test_the_servers_preset_holds_for_what_a_request_leaves_out(replicas):
    endpoints = Endpoints(replicas, replace(CONFIG, preset="d3llm-dream"), draw_seed=lambda: 42)
    with TestClient(build_api(endpoints), URL) as client:
        shown = client.get("/v1/models/org/dream").json()
        for diffusion in (
            {},
            {"threshold": 0.9},
            {"preset": "none"},
            shown["defaults"]["diffusion"],
        ):
            client.post("/v1/completions", json=COMPLETION | {"diffusion": diffusion})

    assert (shown["preset"]["name"], shown["preset"]["is_default"]) == ("d3llm-dream", True)
    assert shown["defaults"]["diffusion"]["entropy_threshold"] == 0.4
    rules = [(m.params.rule, m.params.block_length) for m in replicas.messages]
    by_preset = ("entropy_threshold", 32)
    assert rules == [by_preset, ("threshold", 32), (None, None), by_preset]


def test_a_server_can_show_no_preset(replicas):
    replicas.preset = "dream-v0-base"
    endpoints = Endpoints(replicas, replace(CONFIG, preset="none"))
    with TestClient(build_api(endpoints), URL) as client:
        assert client.get("/v1/models/org/dream").json()["preset"] is None


def test_a_preset_that_there_is_not_is_refused(client):
    answer = client.post("/v1/completions", json=COMPLETION | {"diffusion": {"preset": "best"}})

    assert error_of(answer) == (400, "invalid_value", "diffusion.preset")


def test_health_is_the_process_and_ready_is_a_replica(client, replicas):
    assert client.get("/ready").json() == {}

    replicas.ready = False

    assert client.get("/health").json() == {}
    assert error_of(client.get("/ready")) == (503, "model_loading", None)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nothing", (404, "not_found", None)),
        ("GET", "/", (404, "not_found", None)),
        ("GET", "/docs", (404, "not_found", None)),
        ("GET", "/openapi.json", (404, "not_found", None)),
        ("POST", "/v1/completions/", (404, "not_found", None)),
        ("GET", "/v1/completions", (405, "method_not_allowed", None)),
        ("DELETE", "/v1/models", (405, "method_not_allowed", None)),
        ("GET", "/v1/models/other", (404, "model_not_found", "model")),
    ],
)
def test_errors_of_the_framework_have_the_same_shape(client, method, path, expected):
    assert error_of(client.request(method, path)) == expected


def test_a_wrong_method_is_told_the_right_ones(client):
    assert client.get("/v1/infill").headers["allow"] == "POST"
    assert set(client.post("/v1/models").headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/responses", "use /v1/completions"),
        ("/v1/responses/abc", "use /v1/completions"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/audio/speech", "generates text"),
        ("/v1/images/generations", "generates text"),
        ("/v1/moderations", "generates text"),
        ("/v1/engines/davinci/completions", "use /v1/models"),
        ("/v1/v1/completions", "one /v1"),
        ("/completions", "ends in /v1"),
        ("/v1/completions/", "without the slash"),
    ],
)
def test_a_route_of_other_servers_is_told_what_to_use(client, path, words):
    response = client.post(path, json=COMPLETION)

    assert error_of(response) == (404, "not_found", None)
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/org/dream"])
def test_head_is_answered_as_get_is(client, path):
    head, get = client.head(path), client.get(path)

    assert head.status_code == get.status_code == 200
    for answer in (head, get):
        del answer.headers["x-request-id"]
    assert head.headers == get.headers


def test_a_slash_after_models_changes_nothing(client):
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()


def test_a_body_with_a_name_twice_is_refused_by_the_path_of_the_name(client):
    raw = b'{"model": "org/dream", "prompt": "p", "diffusion": {"steps": 1, "steps": 2}}'

    response = client.post(
        "/v1/completions", content=raw, headers={"content-type": "application/json"}
    )

    assert error_of(response) == (400, "invalid_json", "diffusion.steps")


def test_a_compressed_body_is_refused_by_the_name_of_its_header(client):
    response = client.post("/v1/completions", json=COMPLETION, headers={"content-encoding": "gzip"})

    assert error_of(response) == (415, "unsupported_media_type", None)
    assert "content-encoding" in response.json()["error"]["message"]


def test_what_dream_refuses_is_said_in_the_words_of_json(client):
    wrong = COMPLETION | {"diffusion": {"threshold": 0.5, "factor": 1}}

    error = client.post("/v1/completions", json=wrong).json()["error"]

    assert error["message"] == "diffusion.factor: null together with threshold"


def test_another_model_is_not_found(client):
    response = client.post("/v1/completions", json=COMPLETION | {"model": "gpt"})

    assert error_of(response) == (404, "model_not_found", "model")


@pytest.mark.parametrize("header", ["x-request-disconnect-disabled", "X-Request-Timeout-Seconds"])
def test_a_caller_cannot_steer_serves_proxy(client, header):
    response = client.post("/v1/completions", json=COMPLETION, headers={header: "?1"})

    assert error_of(response) == (400, "invalid_value", None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 1e-46}, "temperature"),
        ({"temperature": 5e-5}, "temperature"),
        ({"diffusion": {"alg_temp": 1e-320}}, "diffusion.alg_temp"),
    ],
)
def test_a_temperature_too_small_for_float32_is_refused(client, fields, param):
    response = client.post("/v1/completions", json=COMPLETION | fields)

    assert error_of(response) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    ("diffusion", "param"),
    [
        ({"vicinity": 4}, "diffusion.vicinity"),
        ({"refresh_every": 2}, "diffusion.refresh_every"),
        ({"suffix_window": 16}, "diffusion.suffix_window"),
        ({"eos_annealing": 2, "order": "random"}, "diffusion.eos_annealing"),
        ({"alg": "origin", "egi_temperature": 1}, "diffusion.egi_temperature"),
        ({"history": 1}, "diffusion.history"),
        ({"grow_to": 0}, "diffusion.grow_to"),
        ({"window": "both"}, "diffusion.window"),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("completions", COMPLETION), ("infill", INFILL)])
def test_a_field_of_decoding_that_fits_no_other_is_named(client, path, body, diffusion, param):
    wrong = body | {"temperature": 0.5, "diffusion": diffusion}

    assert error_of(client.post(f"/v1/{path}", json=wrong)) == (400, "invalid_value", param)


def test_a_canvas_that_would_outgrow_the_context_is_refused_by_its_field(client, replicas):
    message = "at most 9"
    replicas.trouble = Refusal(code="context_length_exceeded", field="grow_to", message=message)

    response = client.post("/v1/completions", json=COMPLETION)

    assert error_of(response) == (400, "context_length_exceeded", "diffusion.grow_to")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(client, content_type):
    response = client.post(
        "/v1/completions", content=json.dumps(COMPLETION), headers={"content-type": content_type}
    )

    assert error_of(response) == (415, "unsupported_media_type", None)


def test_a_charset_after_the_media_type_is_fine(client):
    response = client.post(
        "/v1/completions",
        content=json.dumps(COMPLETION),
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )

    assert response.status_code == 200


def test_a_body_over_the_limit_is_refused_by_its_declared_length(client):
    response = client.post("/v1/completions", json=COMPLETION | {"prompt": "x" * 1000})

    assert error_of(response) == (413, "request_too_large", None)


def test_a_body_over_the_limit_is_refused_while_it_arrives(client):
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    response = client.post(
        "/v1/completions", content=chunks(), headers={"content-type": "application/json"}
    )

    assert error_of(response) == (413, "request_too_large", None)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{", (400, "invalid_json", None)),
        (b"\xff", (400, "invalid_json", None)),
        (b"[" * 900, (400, "invalid_json", None)),
        (b"[]", (400, "invalid_value", None)),
        (b'{"model": "org/dream"}', (400, "missing_required_parameter", "prompt")),
    ],
)
def test_broken_bodies_have_the_same_shape(client, raw, expected):
    response = client.post(
        "/v1/completions", content=raw, headers={"content-type": "application/json"}
    )

    assert error_of(response) == expected


@pytest.mark.parametrize(
    ("refusal", "path", "expected"),
    [
        (("context_length_exceeded", "template"), "completions", "prompt"),
        (("context_length_exceeded", "num_tokens"), "completions", "max_tokens"),
        (("context_length_exceeded", "template"), "infill", "segments"),
        (("context_length_exceeded", "num_tokens"), "infill", "segments"),
        (("invalid_value", "steps"), "completions", "diffusion.steps"),
        (("invalid_value", "top_k"), "completions", "top_k"),
        (("compute_budget_exceeded", None), "infill", None),
    ],
)
def test_a_refusal_names_the_field_of_the_wire(client, replicas, refusal, path, expected):
    code, field = refusal
    replicas.trouble = Refusal(code=code, field=field, message="less")

    response = client.post(f"/v1/{path}", json=INFILL if path == "infill" else COMPLETION)

    assert error_of(response) == (400, code, expected)
    message = response.json()["error"]["message"]
    assert message.startswith("less" if expected is None else f"{expected}: less")
    assert ("prompt and max_tokens" in message) is (expected in ("prompt", "max_tokens"))


@pytest.mark.parametrize(
    "trouble",
    [
        ApiError("overloaded", "Too many.", retry_after_s=1),
        Refusal(code="overloaded", message="Too much.", retry_after_s=1),
    ],
)
def test_overload_is_told_with_a_time_to_wait(client, replicas, trouble):
    replicas.trouble = trouble

    response = client.post("/v1/completions", json=COMPLETION)

    assert error_of(response) == (503, "overloaded", None)
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-should-retry"] == "true"


def test_an_answer_that_takes_too_long_is_a_timeout_without_retry(client, replicas):
    replicas.delay_s = 5

    response = client.post("/v1/completions", json=COMPLETION)

    assert error_of(response) == (504, "timeout", None)
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("given", "is_used"), [("abc-1._", True), ("a" * 129, False), ("a b", False), ("<x>", False)]
)
def test_a_bug_is_told_by_an_id_and_nothing_else(client, replicas, given, is_used):
    replicas.trouble = RuntimeError("secret detail")

    response = client.post("/v1/infill", json=INFILL, headers={"x-request-id": given})

    assert error_of(response) == (500, "internal_error", None)
    assert "secret" not in response.text
    assert (given in response.text) is is_used


def test_what_holes_alone_make_too_dear_is_refused_before_any_replica_is_asked(client, replicas):
    response = client.post("/v1/completions", json=COMPLETION | {"max_tokens": 40})

    assert error_of(response) == (400, "compute_budget_exceeded", None)
    assert replicas.messages == []


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(RuntimeError("secret"), "internal_error"), (ApiError("overloaded", "Full."), "overloaded")],
)
def test_a_failure_after_the_first_byte_is_an_error_in_the_stream(client, replicas, trouble, code):
    replicas.trouble_in_stream = trouble

    response = client.post("/v1/completions", json=COMPLETION | {"stream": True})

    *_, last = [line for line in response.text.splitlines() if line]
    assert response.status_code == 200
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == code
    assert "[DONE]" not in response.text
    assert "secret" not in response.text
    assert response.headers["x-accel-buffering"] == "no"


def test_a_stream_that_takes_too_long_says_so(client, replicas):
    replicas.delay_in_stream_s = 5

    response = client.post("/v1/completions", json=COMPLETION | {"stream": True})

    *_, last = [line for line in response.text.splitlines() if line]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"


def test_a_chat_needs_a_model_with_turns(client, replicas):
    replicas.special_tokens = ()
    body = {"model": "org/dream", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}

    response = client.post("/v1/chat/completions", json=body)

    assert error_of(response) == (400, "unsupported_parameter", "messages")


def test_silence_is_broken_by_comments_also_while_steps_without_text_go_on(
    client, replicas, monkeypatch
):
    monkeypatch.setattr("deployments.chunk_stream.PAUSE_S", 0.02)
    replicas.silent_updates = 8

    response = client.post("/v1/completions", json=COMPLETION | {"stream": True})

    assert response.text.count(": step 1/2") >= 1
    assert response.text.endswith("data: [DONE]\n\n")


def test_two_names_of_quality_agree(client):
    both = {"reasoning_effort": "low", "diffusion": {"quality": "best"}}

    response = client.post("/v1/completions", json=COMPLETION | both)

    assert error_of(response) == (400, "invalid_value", "reasoning_effort")
