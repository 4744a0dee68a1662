"""A rank of a replica over two stops under load: its replica ends, and another one goes on."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.processes import actors_here, gone
from tests.integration.fault_load import Load
from tests.integration.faulty import APP, deployed, kill, num_under_way, processes, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_stopped_rank_loses_nothing(server, num_replicas):
    """With one replica, requests wait for the one that takes its place."""
    with deployed(num_replicas=num_replicas, tensor_parallel=2):
        ranks = actors_here("Rank")
        assert len(ranks) == 2 * num_replicas
        load = Load(f"{server.url}/{APP}", num_requests=8, num_tokens=60)
        asked = load.start()
        until(lambda: all(num_under_way(one) for one in processes("DreamReplica").values()))

        os.kill(ranks[0], signal.SIGSTOP)
        try:
            outcome = load.finish("stopped rank", 1, asked)
            assert (outcome.told, outcome.lost) == (0, 0)
            assert gone(ranks[:1])
        finally:
            load.close()
            if ranks[0] in actors_here("Rank"):
                kill(ranks[0])
        until(lambda: len(set(actors_here("Rank")) - set(ranks[:1])) == 2 * num_replicas)
