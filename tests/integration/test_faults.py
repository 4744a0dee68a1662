"""Processes killed and stopped under load: counted are answers that are right, and lost ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.faulty import APP, Load, body, deployed, kill, processes, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]

NUM_KILLS = 3


@pytest.fixture
def load(server) -> Iterator[Load]:
    with deployed(num_replicas=2, num_ingresses=2):
        load = Load(server.url, num_requests=12, num_tokens=120)
        yield load
        load.close()


def test_replicas_killed_one_after_the_other_lose_nothing(load, server):
    asked = load.start()

    for _ in range(NUM_KILLS):
        until(lambda: len(processes("DreamReplica")) == 2)
        until(lambda: server.stats(APP)["requests"] >= 1 or all(f.done() for f in asked.values()))
        kill(next(iter(processes("DreamReplica"))))
    outcome = load.finish("killed replica", NUM_KILLS, asked)

    assert outcome.lost == 0, [future.exception() for future in asked.values()]


def test_a_replica_that_stops_answering_loses_nothing(load, server):
    pids = processes("DreamReplica")
    stopped = next(iter(pids))
    asked = load.start()
    until(lambda: server.stats(APP)["requests"] >= 2)

    os.kill(stopped, signal.SIGSTOP)
    try:
        outcome = load.finish("stopped replica", 1, asked)
    finally:
        kill(stopped)

    assert outcome.lost == 0, [future.exception() for future in asked.values()]


def test_an_ingress_killed_under_load_loses_no_answer(load, server):
    """A stream that has begun ends with an error event: nothing can take its connection over."""
    asked = load.start()
    until(lambda: server.stats(APP)["requests"] >= 2)

    kill(next(iter(processes("Ingress"))))
    outcome = load.finish("killed ingress", 1, asked)

    failed = {number: future.exception() for number, future in asked.items()}
    assert all(failed[number] is None for number in failed if number % 2 == 0), failed
    for error in filter(None, failed.values()):
        assert "replica_lost" in str(error)
    assert outcome.served >= len(asked) // 2


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
