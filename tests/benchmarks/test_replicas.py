"""The benchmark of several replicas: what its table says, and that it runs."""

from __future__ import annotations

import json

import pytest

from benchmarks.replicas import Scaled, efficiencies, main, scaled_table


def run_of(replicas: int, offered: float | None, cpu_s: float) -> Scaled:
    return Scaled(
        replicas=replicas,
        offered=offered,
        requests=10,
        requests_per_s=2.0 * replicas,
        token_forwards=1000,
        p50_ms=5,
        p99_ms=9,
        replica_cpu_s=cpu_s,
        server_cpu_s=0.1,
    )


def test_efficiency_is_work_for_a_processor_second_against_one_replica():
    found = [run_of(1, None, 1.0), run_of(1, 0.5, 3.0), run_of(2, None, 1.25)]

    assert efficiencies(found) == {1: 1.0, 2: 0.8}
    lines = scaled_table(found).splitlines()
    assert lines[2].endswith("| 100% |")
    assert lines[4].startswith("| 2 | all at once | 10 | 4.0 | 5 | 9 | 800 | 10.0 | 80% |")


@pytest.mark.slow
@pytest.mark.ray
def test_it_runs_through_http_and_records(tmp_path, capsys):
    main(["--replicas", "1", "2", "--loads", "0.5", "-n", "12", "--record", "test"], tmp_path)

    (file,) = tmp_path.glob("replicas_test_*.json")
    rows = json.loads(file.read_text())["rows"]
    assert [(row["replicas"], row["offered"]) for row in rows] == [
        (1, None),
        (1, 0.5),
        (2, None),
        (2, 0.5),
    ]
    assert len({row["token_forwards"] for row in rows}) == 1
    assert "efficiency" in capsys.readouterr().out
