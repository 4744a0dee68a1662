"""One JSON line for each request, with nothing in it that a caller wrote."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from deployments.access_log import record_of
from deployments.endpoints import Endpoints
from deployments.gate import GateConfig
from deployments.ingress import build_api
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_api import COMPLETION, CONFIG
from tests.deployments.test_gate import bearer, calling, created

FIELDS = {"time", "id", "method", "key", "route", "status", "prompt_tokens", "completion_tokens"}
FIELDS |= {"steps", "token_forwards", "queue_ms", "denoise_ms", "total_ms", "is_stream"}
FIELDS |= {"has_disconnected", "has_text", "error", "forward_passes", "first_text_ms"}
FIELDS |= {"deadline_met", "cut_by", "priority"}


@pytest.fixture
def lines(capsys):
    """What was written since, parsed line by line."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_request_is_one_line_with_what_it_cost(tmp_path, lines):
    file = tmp_path / "keys.json"
    secret = created(file, "alice")
    with calling(GateConfig(keys=str(file))) as client:
        client.headers.update(bearer(secret) | {"x-request-id": "my-id"})
        usage = client.post("/v1/completions", json=COMPLETION).json()["usage"]

    (line,) = lines()
    assert set(line) == FIELDS
    assert (line["id"], line["key"], line["method"]) == ("my-id", "alice", "POST")
    assert (line["route"], line["status"]) == ("/v1/completions", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (10, 3)
    assert line["token_forwards"] == usage["diffusion"]["token_forwards"]
    assert line["steps"] == usage["diffusion"]["steps"]
    assert line["total_ms"] >= 0
    assert (line["is_stream"], line["has_disconnected"]) == (False, False)
    assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0


def test_no_line_has_what_a_caller_wrote(tmp_path, capsys):
    file = tmp_path / "keys.json"
    secret, wrong = created(file, "alice").decode(), "dk_wrongMARK"
    body = COMPLETION | {"prompt": "MARK", "suffix": "MARK", "user": "MARK", "stop": ["MARK"]}
    body |= {"metadata": {"MARK": "MARK"}, "safety_identifier": "MARK"}
    with calling(GateConfig(keys=str(file))) as client:
        for key in (secret, wrong):
            client.headers.update(bearer(key) | {"user-agent": "MARK", "x-request-id": "MARK?"})
            client.post("/v1/completions?MARK=MARK", json=body)
            client.post("/v1/infill", json={"MARK": 1})
            client.get("/v1/models/MARK")
            client.get("/MARK")

    written = capsys.readouterr().out
    routes = [json.loads(line)["route"] for line in written.splitlines()]
    known = ["/v1/completions", "/v1/infill", "/v1/models/{model_id:path}", None]
    assert routes == known + [None] * 4
    assert "MARK" not in written
    assert secret not in written


@pytest.mark.parametrize(
    ("trouble", "status"), [(RuntimeError("MARK"), 500), (None, 200), ("denied", 403)]
)
def test_a_line_has_the_status_that_was_sent(lines, trouble, status):
    replicas = FakeReplicas(trouble=trouble if isinstance(trouble, Exception) else None)
    with calling(GateConfig(), replicas=replicas) as client:
        host = "evil.example" if trouble == "denied" else "127.0.0.1"
        client.post("/v1/completions", json=COMPLETION, headers={"host": host})

    assert [line["status"] for line in lines()] == [status]


def test_a_stream_is_charged_for_all_that_it_ran_and_its_line_comes_at_its_end(tmp_path, lines):
    file = tmp_path / "keys.json"
    limited = bearer(created(file, "alice", "--token-forwards-per-minute", "100"))
    api = build_api(Endpoints(FakeReplicas(), CONFIG), GateConfig(keys=str(file)))

    async def stream(request):
        async def events():
            for done in (30, 60, 90):
                record_of(request).token_forwards = done
                yield b"data: {}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    api.add_route("/v1/stream", stream)
    with TestClient(api, URL) as client:
        client.headers.update(limited)
        head = client.get("/v1/stream").headers
        after = client.get("/v1/models").headers

    assert head["x-ratelimit-remaining-token-forwards"] == "100"
    assert after["x-ratelimit-remaining-token-forwards"] == "10"
    line = lines()[0]
    assert (line["token_forwards"], line["is_stream"], line["status"]) == (90, True, 200)


async def cancelled_while_it_runs(limited: dict[str, str], file: str) -> None:
    """A caller of the bare app that hangs up, as Serve tells it: the task is cancelled."""
    api = build_api(
        Endpoints(FakeReplicas(delay_s=30), CONFIG), GateConfig(keys=file), sends_request_id=False
    )
    body = json.dumps(COMPLETION).encode()
    headers = limited | {"content-type": "application/json"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        raise AssertionError("there is nobody to send to")

    for _ in range(2):  # the second time shows that the first no longer counts as running
        task = asyncio.create_task(api(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_caller_that_hangs_up_is_told_in_the_line_and_no_longer_runs(tmp_path, lines):
    file = tmp_path / "keys.json"
    limited = bearer(created(file, "alice", "--concurrent-requests", "1"))

    asyncio.run(cancelled_while_it_runs(limited, str(file)))

    ended = [(line["status"], line["has_disconnected"]) for line in lines()]
    assert ended == [(499, True), (499, True)]


def test_a_key_with_too_many_requests_at_a_time_is_refused_until_one_ends(tmp_path):
    file = tmp_path / "keys.json"
    limited = bearer(created(file, "alice", "--concurrent-requests", "1"))
    api = build_api(Endpoints(FakeReplicas(), CONFIG), GateConfig(keys=str(file)))
    inner: list[int] = []
    with TestClient(api, URL, headers=limited) as client:

        async def nested(request):
            inner.append(await asyncio.to_thread(lambda: client.get("/v1/models").status_code))
            return await Endpoints(FakeReplicas(), CONFIG).health()

        api.add_route("/nested", nested)
        codes = [client.get("/nested").status_code, client.get("/v1/models").status_code]

    assert (codes, inner) == ([200, 200], [429])
