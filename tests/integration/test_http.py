"""The HTTP contract over a running Serve: the real openai client, httpx and a bare socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from urllib.parse import urlsplit

import openai
import pytest
import ray
from ray import serve

from deployments.app import AppArgs, build_app
from dream import SamplingParams
from tests.deployments.samples import wire

pytestmark = pytest.mark.ray

LONG = {
    "model": "embedded",
    "prompt": "Once",
    "max_tokens": 450,
    "n": 8,
    "temperature": 1.0,
    "diffusion": {"early_exit": False},
}
"""Eight canvases of 450 forward passes each: many seconds of work."""

SUDOKU = "S:1034/0402/2100/4021="

HARD_TEXTS = [
    "plain ",
    "\u00e9 and e\u0301, \u4f60\u597d, \U0001f600\u200d\U0001f680 ",
    '<|mask|><|endoftext|><|im_start|>user\r\n\t"\\" ',
    "\x00\x7f\ufeff\ufffd ",
    "",
]


def complete(server, **fields):
    fields = {"model": "embedded", "prompt": "Once", "max_tokens": 12} | fields
    return server.openai.completions.create(**fields)


def until(is_so: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


def connect(server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def test_models_are_listed_and_found_by_id(server):
    (listed,) = server.openai.models.list().data
    found = server.openai.models.retrieve("embedded")

    assert listed == found
    assert (found.id, found.object, found.owned_by) == ("embedded", "model", "dream-cluster")
    assert found.max_model_len == 512
    assert found.capabilities["infill"] is True


def test_health_and_ready_answer_once_a_replica_runs(server):
    for path in ("/health", "/ready"):
        response = server.http.get(path)
        assert (response.status_code, response.json()) == (200, {})


def test_a_completion_has_text_usage_and_what_repeats_it(server):
    answer = complete(server, extra_body={"diffusion": {"steps": 6, "early_exit": False}})

    (choice,) = answer.choices
    assert answer.object == "text_completion"
    assert choice.finish_reason in ("stop", "length")
    assert choice.diffusion["resolved"]["steps"] == 6
    assert 0 <= choice.diffusion["seed"] < 2**63
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.total_tokens == 4 + answer.usage.completion_tokens
    cost = answer.usage.diffusion
    assert (cost["steps"], cost["canvas_tokens"]) == (6, 16)
    assert cost["forward_passes"] <= 6
    assert cost["token_forwards"] == 16 * cost["forward_passes"]


def test_token_ids_and_the_text_they_stand_for_give_the_same(server):
    ids = list(b"Once")

    by_text, by_ids = complete(server), complete(server, prompt=ids)
    both = complete(server, prompt=["Once", "Two"])

    assert by_ids.choices[0].text == by_text.choices[0].text
    assert both.choices[0].text == by_text.choices[0].text
    assert [choice.index for choice in both.choices] == [0, 1]


def test_a_suffix_is_on_the_canvas_and_not_in_the_text(server):
    plain = complete(server, extra_body={"diffusion": {"early_exit": False}})
    answer = complete(server, suffix=" the end.", extra_body={"diffusion": {"early_exit": False}})

    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens + len(" the end.")
    assert not answer.choices[0].text.endswith(" the end.")


def test_infill_returns_fixed_text_byte_for_byte_around_many_holes(server):
    segments: list[dict[str, object]] = []
    for index, text in enumerate(HARD_TEXTS):
        segments += [{"text": text}, {"hole": 3 + index, "id": f"h{index}"}]
    body = {"model": "embedded", "segments": segments, "temperature": 1.0, "seed": 5}

    answer = server.openai.post("/infill", body=body, cast_to=dict)

    (choice,) = answer["choices"]
    spans = choice["spans"]
    whole = "".join(t + s["text"] for t, s in zip(HARD_TEXTS, spans, strict=True))
    assert answer["object"] == "infill"
    assert [span["id"] for span in spans] == [f"h{index}" for index in range(5)]
    assert [span["tokens"] <= 3 + index for index, span in enumerate(spans)] == [True] * 5
    assert choice["text"].encode() == whole.encode()


def test_the_same_seed_gives_the_same_text_alone_and_among_others(server):
    def ask(seed: int):
        """One of the 288 solved grids, all of them as likely."""
        wanted = {"prompt": "S:0000/0000/0000/0000=", "max_tokens": 19, "temperature": 1.0}
        return complete(server, seed=seed, **wanted).choices[0].text

    alone = ask(7)
    with ThreadPoolExecutor(8) as pool:
        among = list(pool.map(ask, [1, 7, 2, 7, 3, 4, 7, 5]))

    assert [among[1], among[3], among[6]] == [alone] * 3
    assert len(set(among)) > 3  # other seeds, other texts, though two of them may agree


def test_a_choice_is_repeated_by_the_seed_it_names(server):
    three = complete(server, n=3, seed=3, temperature=1.0)

    again = [
        complete(server, seed=choice.diffusion["seed"], temperature=1.0) for choice in three.choices
    ]

    assert [answer.choices[0].text for answer in again] == [c.text for c in three.choices]
    assert three.choices[0].diffusion["seed"] == 3
    assert three.usage.prompt_tokens == 4


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.9, "alg": "origin"},
        {"order": "random", "block_length": 4},
        {"threshold": 0.9, "max_commits": 3, "frontier": 8, "alg_temp": 0.5},
        {"history": 2, "eos_frontier": 4, "steps": 6},
        {"grow_to": 24, "egi_temperature": 2, "window": "dual", "refresh_every": 3},
    ],
)
def test_the_whole_resolved_object_repeats_its_answer(server, options):
    asked = {"model": "embedded", "prompt": "Once", "max_tokens": 12}
    first = server.http.post("/v1/completions", json=asked | wire(options)).json()["choices"][0]

    said = first["diffusion"]
    assert set(said["resolved"]) == {field.name for field in fields(SamplingParams)} - {"seed"}
    body = asked | wire(said["resolved"] | {"seed": said["seed"]})
    again = server.http.post("/v1/completions", json=body).json()["choices"][0]

    assert again == first


def test_choices_that_draw_nothing_cost_one_canvas(server):
    def forwards() -> float:
        return server.stats()["forward_passes"]

    start = forwards()
    one = complete(server)
    alone = forwards() - start
    three = complete(server, n=3, seed=1)
    together = forwards() - start - alone

    assert [choice.text for choice in three.choices] == [one.choices[0].text] * 3
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({choice.diffusion["seed"] for choice in three.choices}) == 3
    assert together == alone
    assert three.usage == one.usage
    assert three.usage.diffusion["forward_passes"] == alone


def test_a_stop_string_cuts_the_text(server):
    asked = {"prompt": SUDOKU, "max_tokens": 24}
    text = complete(server, **asked).choices[0].text
    stop = text[5:7]

    cut = complete(server, **asked, stop=[stop]).choices[0]

    assert len(text) == 19
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")


def test_requests_made_together_share_forwards(server):
    before = server.stats()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: complete(server, prompt=f"{n}: ", max_tokens=60), range(8)))
    after = server.stats()

    steps = after["steps"] - before["steps"]
    assert after["forward_passes"] - before["forward_passes"] > 1.5 * steps


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 9}, "invalid_value", "n"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"seed": -1}, "invalid_value", "seed"),
        ({"prompt": [300]}, "invalid_value", "prompt"),
        ({"prompt": "x" * 600}, "context_length_exceeded", "prompt"),
        ({"max_tokens": 510}, "context_length_exceeded", "max_tokens"),
        ({"max_tokens": 2000}, "context_length_exceeded", "max_tokens"),  # over the budget too
        ({"prompt": "x" * 800, "max_tokens": 300}, "context_length_exceeded", "prompt"),
        ({"extra_body": {"diffusion": {"steps": 0}}}, "invalid_value", "diffusion.steps"),
        ({"extra_body": {"diffusion": {"steps": 2049}}}, "invalid_value", "diffusion.steps"),
        ({"extra_body": {"diffusion": {"step": 4}}}, "unknown_parameter", "diffusion.step"),
        ({"extra_body": {"min_p": 0.1}}, "unknown_parameter", "min_p"),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"presence_penalty": 0.5}, "unsupported_parameter", "presence_penalty"),
        ({"echo": True}, "unsupported_parameter", "echo"),
        (
            {
                "max_tokens": 400,
                "n": 8,
                "temperature": 1,
                "extra_body": {"diffusion": {"steps": 2048}},
            },
            "compute_budget_exceeded",
            None,
        ),
    ],
)
def test_a_bad_request_is_the_clients_bad_request_error(server, fields, code, param):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(server, **fields)

    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"


def test_a_model_that_is_not_served_is_not_found(server):
    with pytest.raises(openai.NotFoundError) as caught:
        complete(server, model="gpt-5")

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "content", "expected"),
    [
        ("POST", "/v1/completions", b'{"model":', (400, "invalid_json")),
        ("POST", "/v1/completions", b"\xff\xfe", (400, "invalid_json")),
        ("POST", "/v1/completions", b"[" * 100_000, (400, "invalid_json")),
        ("POST", "/v1/infill", b'{"seed": ' + b"9" * 5000 + b"}", (400, "invalid_json")),
        ("POST", "/v1/infill", b"{}", (400, "missing_required_parameter")),
        ("POST", "/v1/infill", b" " * 300_000, (413, "request_too_large")),
        ("GET", "/v1/infill", b"", (405, "method_not_allowed")),
        ("POST", "/v1/nothing", b"{}", (404, "not_found")),
        ("GET", "/", b"", (404, "not_found")),
    ],
)
def test_whatever_is_sent_the_error_has_the_one_shape(server, method, path, content, expected):
    response = server.http.request(
        method, path, content=content, headers={"content-type": "application/json"}
    )

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == expected
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/models/embedded", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(server, path):
    head, get = server.http.head(path), server.http.get(path)

    assert head.status_code == get.status_code
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/..%2f..%2fetc", "/..%2fv1"])
def test_a_crooked_path_is_not_found(server, path):
    response = server.http.get(server.url + path)

    assert response.status_code == 404
    assert response.json()["error"]["code"] in ("not_found", "model_not_found")


def test_a_chunked_body_is_counted_as_it_arrives(server):
    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    response = server.http.post(
        "/v1/infill", content=chunks(), headers={"content-type": "application/json"}
    )

    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_a_form_is_an_unsupported_media_type(server):
    response = server.http.post("/v1/completions", data={"model": "embedded"})

    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


def test_the_request_id_comes_back(server):
    given = complete(server, extra_headers={"x-request-id": "my-id.1"})
    drawn = complete(server)

    assert given._request_id == "my-id.1"
    assert drawn._request_id


def test_a_client_that_hangs_up_frees_its_canvases(server):
    aborted = server.stats()["requests_aborted"]
    body = json.dumps(LONG).encode()

    with connect(server) as connection:
        connection.sendall(head("/v1/completions", len(body)) + body)
        until(lambda: server.stats()["requests"] == 8)

    until(lambda: server.stats()["requests"] == 0, timeout_s=5)
    stats = server.stats()
    assert stats["requests_aborted"] - aborted == 8
    assert stats["token_forwards_queued"] == 0


def test_a_client_cannot_ask_to_keep_its_canvases_when_it_hangs_up(server):
    headers = {"x-request-disconnect-disabled": "?1"}

    response = server.http.post("/v1/completions", json=LONG, headers=headers)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value")


@pytest.fixture(scope="module")
def small(server) -> Iterator[str]:
    """A second app that runs one request, queues one, and has little patience."""
    args = AppArgs(
        model="embedded",
        timeout_s=2,
        body_timeout_s=3,
        max_ongoing_requests=1,
        max_queued_requests=1,
    )
    serve.run(build_app(args), name="small", route_prefix="/small")
    yield "/small"
    serve.delete("small")


def test_what_is_too_much_is_refused_and_what_takes_too_long_is_ended(server, small):
    def ask(_: int) -> tuple[int, str, str]:
        response = server.http.post(f"{small}/v1/completions", json=LONG)
        retry = response.headers["x-should-retry"]
        return response.status_code, response.json()["error"]["code"], retry

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))

    assert set(answers) == {(503, "overloaded", "true"), (504, "timeout", "false")}
    until(lambda: server.stats("small")["requests"] == 0, timeout_s=5)


def test_a_body_that_does_not_arrive_is_a_request_timeout(server, small):
    with connect(server) as connection:
        connection.sendall(head(f"{small}/v1/completions", 100) + b'{"model": ')
        answer = b""
        while not answer.endswith(b"}}"):
            received = connection.recv(4096)
            assert received, "the connection ended before the answer did"
            answer += received

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


def test_what_the_only_replica_ran_when_it_died_is_answered_by_its_successor(server):
    body = LONG | {"max_tokens": 200, "n": 4, "seed": 3}
    expected = server.http.post("/v1/completions", json=body).json()["choices"]

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.http.post, "/v1/completions", json=body)
        until(lambda: server.stats()["requests"] == 4)
        _kill_replica("dream")
        response = answer.result()

    assert response.status_code == 200, response.text
    assert response.json()["choices"] == expected
    assert server.http.get("/ready").status_code == 200


def _kill_replica(app: str) -> None:
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{app}#DreamReplica#"):
            ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
