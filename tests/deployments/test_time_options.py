"""Deadlines, elastic requests, timetables and priorities on the wire, and what canvases get."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from deployments.canvases import Presets, completion_messages
from deployments.endpoints import Endpoints
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.key_file import Key, editing, new_key
from deployments.messages import CanvasRequest, Refusal
from deployments.replica import DreamReplica, ReplicaConfig
from deployments.requests import CompletionRequest
from dream import EngineConfig, Hole, SamplingParams
from dream.text import TextTemplate
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_api import CONFIG

BODY = {"model": "org/dream", "prompt": "x", "max_tokens": 32}


def client(replicas: FakeReplicas, gate: GateConfig | None = None) -> TestClient:
    api = build_api(Endpoints(replicas, CONFIG), gate or GateConfig())
    return TestClient(api, base_url=URL)


@pytest.mark.parametrize(
    ("diffusion", "param"),
    [
        ({"deadline_ms": 0}, "diffusion.deadline_ms"),
        ({"deadline_ms": 600_001}, "diffusion.deadline_ms"),
        ({"min_steps": 4}, "diffusion.min_steps"),
        ({"timetable": []}, "diffusion.timetable"),
        ({"timetable": [[0, 8], [4]]}, "diffusion.timetable.1"),
        ({"timetable": [[1, 8]]}, "diffusion.timetable"),
        ({"timetable": [[0, 8], [4, 3]]}, "diffusion.timetable"),
        ({"timetable": [[0, 8], [4, 6], [4, 5]]}, "diffusion.timetable"),
        ({"timetable": [[0, 8], [4, 2048]]}, "diffusion.timetable"),
        ({"deadline_ms": 9, "priority": "batch"}, "diffusion.priority"),
        ({"timetable": [[0, 8]], "deadline_ms": 9}, "diffusion.timetable"),
        ({"timetable": [[0, 8]], "elastic": True}, "diffusion.timetable"),
        ({"timetable": [[0, 8]], "steps": 9}, "diffusion.steps"),
        ({"timetable": [[0, 8]], "grow_to": 64}, "diffusion.timetable"),
        ({"deadline_ms": 9, "grow_to": 64}, "diffusion.deadline_ms"),
        ({"elastic": True, "grow_to": 64}, "diffusion.elastic"),
        ({"priority": "urgent"}, "diffusion.priority"),
    ],
)
def test_what_does_not_go_together_is_refused_by_its_name(diffusion, param):
    answer = client(FakeReplicas()).post("/v1/completions", json=BODY | {"diffusion": diffusion})

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("diffusion", "fewest"),
    [
        ({}, 1),
        ({"deadline_ms": 9}, 1),
        ({"deadline_ms": 9, "min_steps": 6}, 6),
        ({"deadline_ms": 9, "min_steps": 60}, 32),
        ({"deadline_ms": 9, "quality": "best"}, 32),
        ({"deadline_ms": 9, "quality": "best", "steps": 20}, 20),
        ({"quality": "best", "elastic": True}, 16),
        ({"quality": "balanced", "elastic": True}, 8),
        ({"quality": "fast", "elastic": True}, 4),
        ({"quality": "fast", "elastic": True, "min_steps": 3}, 3),
    ],
)
def test_a_quality_is_kept_whole_unless_the_request_is_elastic(diffusion, fewest):
    request = CompletionRequest.model_validate(BODY | {"prompt": ["x"], "diffusion": diffusion})

    (message,) = completion_messages(request, "a", 1, Presets())

    assert message.min_steps == fewest
    assert message.is_elastic == diffusion.get("elastic", False)


def test_a_deadline_counts_from_the_arrival_to_where_it_is_sent():
    message = CanvasRequest(
        id="a", template=TextTemplate([Hole(4)]), params=SamplingParams(steps=4), due_at=12.5
    )

    assert message.sent(10.0).time_left_s == 2.5
    assert replace(message, due_at=None).sent(10.0).time_left_s is None


def test_requests_say_whose_they_are_and_a_batch_key_cannot_hurry(tmp_path):
    path = tmp_path / "keys.json"
    keys = {}
    with editing(path) as stored:
        for name, priority in (("one", "interactive"), ("two", "batch")):
            keys[name], digest = new_key()
            stored.append(Key(name=name, sha256=digest, priority=priority))
    replicas = FakeReplicas()
    found = []
    for name, asked in [("one", None), ("one", "batch"), ("two", None), ("two", "interactive")]:
        body = BODY | {"max_tokens": 3, "diffusion": {"priority": asked} if asked else {}}
        headers = {"authorization": f"Bearer {keys[name]}"}
        answer = client(replicas, GateConfig(keys=str(path))).post(
            "/v1/completions", json=body, headers=headers
        )
        assert answer.status_code == 200
        message = replicas.messages[-1]
        found.append((message.key, message.priority))
        assert message.group == answer.json()["id"]

    assert found == [
        ("one", "interactive"),
        ("one", "batch"),
        ("two", "batch"),
        ("two", "batch"),
    ]


@pytest.fixture(scope="module")
def replica():
    config = ReplicaConfig(
        model="embedded", engine=EngineConfig(threads=1), max_token_forwards=10**7
    )
    replica = DreamReplica(config)
    yield replica
    replica.close()


def test_a_deadline_that_cannot_be_met_is_refused_before_anything_runs(replica):
    message = CanvasRequest(
        id="late",
        template=TextTemplate(["a", Hole(300)]),
        params=SamplingParams(steps=300),
        min_steps=300,
        time_left_s=0.001,
    )

    refusal = asyncio.run(replica.generate([message]))

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.field) == ("deadline_infeasible", "deadline_ms")
    assert replica.stats()["requests"] == 0


def test_a_request_that_was_accepted_once_is_never_too_late(replica):
    message = CanvasRequest(
        id="moved",
        template=TextTemplate(["a", Hole(30)]),
        params=SamplingParams(steps=30),
        min_steps=10,
        time_left_s=-1.0,
        is_accepted=True,
    )

    (result,) = asyncio.run(replica.generate([message]))

    assert result.is_in_time is False
    assert result.usage.steps == 10


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 400), st.integers(0, 99))
def test_what_a_deadline_made_of_a_request_is_repeated_by_its_timetable(
    replica, min_steps, left_ms, seed
):
    """Whatever this machine had time for: all steps, some of them, or not even the fewest."""
    message = CanvasRequest(
        id="a",
        template=TextTemplate(["Once ", Hole(40)]),
        params=SamplingParams(steps=40, temperature=1.0, seed=seed),
        min_steps=min_steps,
        time_left_s=left_ms / 1000,
    )
    answer = asyncio.run(replica.generate([message]))
    if isinstance(answer, Refusal):
        assert answer.code == "deadline_infeasible"
        return

    (result,) = answer
    assert result.is_in_time is not None
    timetable = result.usage.timetable
    assert all(min_steps <= steps <= 40 for _, steps in timetable)
    again = replace(message, time_left_s=None, min_steps=1, timetable=timetable)
    (repeated,) = asyncio.run(replica.generate([again]))

    assert repeated.holes == result.holes
    assert repeated.usage == result.usage
