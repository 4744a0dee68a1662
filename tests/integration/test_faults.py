"""Processes killed and stopped under load: counted are answers that are right, and lost ones."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.fault_load import Load, body
from tests.integration.faulty import APP, deployed, kill, num_under_way, processes, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]

NUM_KILLS = 3
NUM_RANDOM_KILLS = 8


@pytest.fixture
def load(server) -> Iterator[Load]:
    with deployed(num_replicas=2, num_ingresses=2):
        load = Load(f"{server.url}/{APP}", num_requests=12, num_tokens=120)
        yield load
        load.close()


def busy_replicas() -> list[int]:
    """Process ids of the replicas that have requests."""
    return [pid for pid, actor in processes("DreamReplica").items() if num_under_way(actor) >= 1]


def test_replicas_killed_one_after_the_other_lose_nothing(load):
    asked = load.start(again=True)

    for _ in range(NUM_KILLS):
        until(lambda: len(busy_replicas()) == 2)
        kill(busy_replicas()[0])
    outcome = load.finish("killed replica", NUM_KILLS, asked)

    assert (outcome.told, outcome.lost) == (0, 0)


def test_replicas_killed_at_random_again_and_again_lose_nothing(load):
    """Also while the last one killed is being replaced: then nobody is left to serve."""
    chance = random.Random(13)
    asked = load.start(again=True)

    for _ in range(NUM_RANDOM_KILLS):
        until(lambda: len(busy_replicas()) >= 1)
        time.sleep(chance.uniform(0, 3))
        until(lambda: len(processes("DreamReplica")) >= 1)
        kill(chance.choice(sorted(processes("DreamReplica"))))
    outcome = load.finish("replicas killed at random", NUM_RANDOM_KILLS, asked)

    assert (outcome.told, outcome.lost) == (0, 0)


def test_a_replica_that_stops_answering_loses_nothing(load):
    asked = load.start()
    until(lambda: len(busy_replicas()) == 2)

    stopped = busy_replicas()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        outcome = load.finish("stopped replica", 1, asked)
    finally:
        kill(stopped)

    assert (outcome.told, outcome.lost) == (0, 0)


def test_an_ingress_killed_under_load_loses_no_answer(load):
    """A stream that has begun ends with an error event: nothing can take its connection over."""
    asked = load.start()
    until(lambda: len(busy_replicas()) == 2)

    kill(next(iter(processes("Ingress"))))
    outcome = load.finish("killed ingress", 1, asked)

    assert outcome.lost == 0
    assert outcome.told <= outcome.requests // 2


def test_canvases_of_a_killed_ingress_are_aborted(server):
    with deployed(num_replicas=1):
        asked = body(0, num_tokens=450, is_stream=True) | {"n": 8}
        before = server.stats(APP)["requests_aborted"]
        with httpx.stream(
            "POST", f"{server.url}/{APP}/v1/completions", json=asked, timeout=300
        ) as response:
            lines = response.iter_lines()
            until(lambda: next(lines).startswith("data: "))
            kill(next(iter(processes("Ingress"))))
            told = "\n".join(lines)

        assert "replica_lost" in told
        until(lambda: server.stats(APP)["requests"] == 0)
        assert server.stats(APP)["requests_aborted"] - before == 8


def test_a_stopped_replica_is_not_ready(server):
    with deployed(num_replicas=1):
        (stopped,) = processes("DreamReplica")

        def status() -> int:
            return httpx.get(f"{server.url}/{APP}/ready", timeout=60).status_code

        assert status() == 200
        os.kill(stopped, signal.SIGSTOP)
        try:
            began = time.monotonic()
            until(lambda: status() == 503)
            assert time.monotonic() - began < 60
        finally:
            os.kill(stopped, signal.SIGCONT)
        until(lambda: status() == 200)
