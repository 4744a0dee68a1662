"""A killed replica under a few requests: every one is answered as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faulty import Load, deployed, kill, processes, until

pytestmark = pytest.mark.ray


@pytest.fixture
def load(server) -> Iterator[Load]:
    with deployed(num_replicas=2):
        load = Load(server.url, num_requests=4, num_tokens=100)
        yield load
        load.close()


def test_requests_of_a_killed_replica_are_answered_by_another(load, server):
    asked = load.start()
    until(lambda: server.stats("faulty")["requests"] >= 2)

    kill(next(iter(processes("DreamReplica"))))
    outcome = load.finish("killed replica", 1, asked)

    errors = [future.exception() for future in asked.values()]
    assert (outcome.served, outcome.lost) == (4, 0), errors
