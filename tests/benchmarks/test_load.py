"""The benchmark of load: the same work at every load, busy time alone is a cost."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from benchmarks import load
from benchmarks.load import SETTINGS, Mix, TimedEngine, measure
from benchmarks.load_report import Load, spread
from dream import EngineConfig
from tests.models import golden_model

MIX = Mix(prompt=(2, 5), hole=(2, 4), top_id=400)
LOAD = Load(
    offered=1.0,
    requests=3,
    seconds=2.0,
    tokens_per_s=5.0,
    token_forwards_per_s=50.0,
    p50_s=0.1,
    p99_s=0.2,
    rows_per_step=8.0,
    busy_share=0.5,
    cost_us=10.0,
    cpu_us=9.0,
)


def tiny_engine(**config) -> TimedEngine:
    return TimedEngine(golden_model(), None, EngineConfig(**config))


def test_a_seed_gives_the_same_requests_within_the_mix():
    wanted = MIX.draw(20, seed=1)

    assert wanted == MIX.draw(20, seed=1)
    assert wanted != MIX.draw(20, seed=2)
    for request in wanted:
        masked = request.template.num_masked
        assert 2 <= masked <= 4
        assert 2 <= request.template.num_tokens - masked <= 5
        assert request.params.steps in {masked, masked // 2, masked // 4, 1}


def test_every_load_does_the_same_work_and_light_load_is_idle():
    engine = tiny_engine(max_num_batched_tokens=32)

    found = asyncio.run(measure(engine, MIX, number=6, loads=[0.1, 1.0], seed=0))

    assert [each.offered for each in found] == [None, 0.1, 1.0]
    work = [each.token_forwards_per_s * each.seconds for each in found]
    assert work == pytest.approx([work[0]] * 3)
    assert found[1].seconds > found[0].seconds
    assert found[1].busy_share < found[0].busy_share
    for each in found:
        assert 0 < each.p50_s <= each.p99_s
        assert each.cost_us * work[0] / 1e6 <= each.seconds


def test_time_between_steps_is_not_busy():
    engine = tiny_engine()
    start = time.perf_counter()

    engine.generate(MIX.draw(1, seed=0))
    time.sleep(0.2)

    assert 0 < engine.busy_s < time.perf_counter() - start - 0.2


def test_the_spread_looks_no_further_than_saturation():
    found = [
        replace(LOAD, offered=None, cost_us=99.0),
        replace(LOAD, offered=0.25, cost_us=11.0),
        LOAD,
        replace(LOAD, offered=1.2, cost_us=99.0),
    ]

    assert spread(found) == pytest.approx(0.1)


def test_a_recorded_run_writes_table_numbers_and_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "random_model", lambda shape, dtype, device: golden_model())
    monkeypatch.setitem(load.SETTINGS, "tiny", (*SETTINGS["tiny"][:2], MIX))

    load.main(
        ["--size", "tiny", "-n", "3", "--loads", "0.9", "1.1", "--record", "x"], root=tmp_path
    )

    (text,) = (tmp_path / "benchmarks/results").glob("load_x_*.md")
    values = json.loads(text.with_suffix(".json").read_text())
    assert "--record x" in text.read_text()
    assert [row["offered"] for row in values["rows"]] == [None, 0.9, 1.1]
    assert "<svg" in (tmp_path / "docs/figures/load_x.svg").read_text()
