"""The benchmark of scaling, run whole: nodes and replicas come with the load and go with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_load_brings_nodes_and_replicas_and_its_end_takes_both_away(tmp_path):
    """In a process of its own, since this one may be connected to another Ray."""
    file = tmp_path / "reaction.json"

    subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--json", str(file)],
        cwd=ROOT,
        check=True,
        timeout=900,
    )

    found = json.loads(file.read_text())
    up = [event["what"] for event in found["up"]]
    assert set(up) == {
        "the first node",
        "the first replica",
        "the first answer",
        "all nodes",
        "all replicas",
    }
    assert up.index("the first node") < up.index("all replicas")
    assert [event["what"] for event in found["down"]] == ["no replica", "no node"]
    assert set(found["answers"]) == {"200"}
