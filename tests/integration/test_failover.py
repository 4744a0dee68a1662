"""A killed replica under a few requests: every one is answered as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.fault_load import Load
from tests.integration.faulty import APP, deployed, kill, processes, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]


@pytest.fixture
def load(server) -> Iterator[Load]:
    with deployed(num_replicas=2):
        load = Load(f"{server.url}/{APP}", num_requests=4, num_tokens=200)
        yield load
        load.close()


def test_requests_of_a_killed_replica_are_answered_by_another(load, server):
    victim = next(iter(processes("DreamReplica")))
    asked = load.start()
    until(lambda: server.stats(APP)["requests"] >= 2)

    kill(victim)
    outcome = load.finish("killed replica", 1, asked)

    assert (outcome.served, outcome.lost) == (4, 0)
