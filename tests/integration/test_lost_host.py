"""One of two hosts is lost under load, by a killed node or a cut cable: all requests are answered.

The hosts are namespaces of this machine, which has to allow them.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.integration.fault_load import Outcome
from tests.integration.hosts import needed, private

pytestmark = [pytest.mark.ray, pytest.mark.faults]

TIMEOUT_S = 600
"""For the start of two nodes and an app, two rounds of requests, and the fault; usually 100."""


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if (missing := needed()) is not None:
        pytest.skip(f"two hosts need namespaces here: {missing}")


def outcome_of(fault: str) -> Outcome:
    """What became of the load, on a machine of its own, where it is recorded too."""
    command = private([sys.executable, "-m", "tests.integration.two_hosts", fault])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def test_a_killed_node_loses_nothing():
    outcome = outcome_of("kill")

    assert (outcome.served, outcome.told, outcome.lost) == (outcome.requests, 0, 0)


def test_a_cut_cable_loses_nothing():
    """Nothing is reset: the ingress notices by itself that the replica says nothing."""
    outcome = outcome_of("cut")

    assert (outcome.served, outcome.told, outcome.lost) == (outcome.requests, 0, 0)


def test_a_cut_cable_to_an_ingress_loses_no_answer():
    """Streams of the ingress behind the cable that have begun end with an error event."""
    outcome = outcome_of("cut-ingress")

    assert outcome.lost == 0
    assert outcome.told <= outcome.requests // 2
