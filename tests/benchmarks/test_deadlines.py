"""The benchmarks of deadlines and fair turns: what their tables say, and that they run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import deadlines, fairness
from benchmarks.deadlines import arrivals_of
from benchmarks.deadlines_report import Deadlined, Setting, deadline_sections, record, text
from benchmarks.fairness_report import Behind, Beside, Fairness
from benchmarks.fairness_report import record as record_fairness
from benchmarks.fairness_report import text as fairness_text

SETTING = Setting(
    max_num_batched_tokens=128,
    saturation_per_s=2.0,
    saturation_after_per_s=2.1,
    offered=1.5,
    floor_load=0.375,
    seconds=30,
    multiple=5,
    alone_ms={"16": 100.0},
    load_average=1.0,
)
TIMED = Deadlined(
    has_deadlines=True,
    requests=100,
    in_time=96,
    in_time_by_server=97,
    refused=3,
    lost=0,
    steps=0.6,
    p50_ms=300,
    p99_ms=1200,
    seconds=31,
    replica_cpu_s=20,
    server_cpu_s=2,
    client_cpu_s=1,
)
ABOUT = {"date": "2026-11-22", "command": "c", "processor": "p", "cores": "2"}
FAIR = Fairness(
    max_num_batched_tokens=256,
    load_average=1.0,
    load_average_after=2.0,
    requests_per_s=0.5,
    alone=Beside(requests=10, lost=0, p50_ms=500, p99_ms=1000),
    beside=Beside(requests=10, lost=0, p50_ms=700, p99_ms=1400),
    behind=Behind(requests=5, alone_s=0.1, behind_s=0.2),
)


def test_arrivals_are_those_of_the_seed_at_the_rate():
    found = arrivals_of(5.0, 100, seed=1)

    assert found == arrivals_of(5.0, 100, seed=1)
    assert found != arrivals_of(5.0, 100, seed=2)
    times = [at for at, _ in found]
    assert times == sorted(times)
    assert times[-1] < 100
    assert len(found) == pytest.approx(500, rel=0.2)
    assert {size for _, size in found} == set(deadlines.SIZES)


def test_a_refused_request_has_missed_its_deadline():
    plain = replace(TIMED, has_deadlines=False, in_time=40, refused=0)

    page = text(ABOUT, SETTING, [TIMED, plain])

    assert "| with `deadline_ms` | 100 | 96.0% | 3 | 0 | 60% |" in page
    assert "| plain | 100 | 40.0% | 0 |" in page
    assert "Deadlines met: 96.0% (goal 95%: met). Lost requests: 0." in page
    few = replace(TIMED, in_time=94)
    assert "Deadlines met: 94.0% (goal 95%: not met)" in text(ABOUT, SETTING, [few, plain])


def test_the_page_shows_what_was_recorded(tmp_path):
    record("x", ABOUT, SETTING, [TIMED], tmp_path)

    assert "2.00 requests/s" in deadline_sections(tmp_path)["deadlines"]()
    assert json.loads((tmp_path / "deadlines_x_202611.json").read_text())["rows"][0]["lost"] == 0


def test_the_smallest_ratio_is_compared_with_the_goal():
    wide = replace(FAIR, max_num_batched_tokens=4096, beside=replace(FAIR.beside, p99_ms=5000))

    page = fairness_text(ABOUT, [wide, FAIR])

    assert "1.40 times its p99 alone at steps of at most 256 tokens (goal 1.5: met)" in page
    assert "| 4096 | 0.50 | 500 | 700 | 1,000 | 5,000 | 5.00 | 0 |" in page


def test_fair_turns_are_recorded(tmp_path):
    stem = record_fairness("x", ABOUT, [FAIR], tmp_path)

    rows = json.loads(stem.with_suffix(".json").read_text())["rows"]
    assert rows[0]["behind"] == {"requests": 5, "alone_s": 0.1, "behind_s": 0.2}


@pytest.mark.slow
@pytest.mark.ray
def test_deadlines_run_through_http_and_nothing_is_lost(tmp_path, capsys):
    words = ["--seconds", "6", "--rounds", "1", "--multiple", "20", "--record", "test"]
    deadlines.main(words, tmp_path)

    (file,) = tmp_path.glob("deadlines_test_*.json")
    timed, plain = json.loads(file.read_text())["rows"]
    assert (timed["has_deadlines"], plain["has_deadlines"]) == (True, False)
    assert timed["requests"] == plain["requests"]
    assert timed["lost"] == plain["lost"] == plain["refused"] == 0
    assert timed["steps"] <= plain["steps"] == 1
    assert timed["in_time_by_server"] <= timed["requests"] - timed["refused"]
    assert "Deadlines met" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ray
def test_fair_turns_run_through_http_and_nothing_is_lost(tmp_path, capsys):
    words = ["-n", "4", "--greedy", "1", "--prompts", "2", "--max-num-batched-tokens", "256"]
    fairness.main([*words, "--record", "test"], tmp_path)

    (file,) = tmp_path.glob("fairness_test_*.json")
    (row,) = json.loads(file.read_text())["rows"]
    assert row["alone"]["lost"] == row["beside"]["lost"] == 0
    assert row["behind"]["requests"] == 5
    assert "times its p99 alone" in capsys.readouterr().out
