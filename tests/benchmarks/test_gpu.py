"""The benchmark of a GPU machine: formulas, goals, its page and its parts.

tests/test_bare_machine.py runs all of it.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import benchmarks.gpu.bench
from benchmarks.gpu import steps
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import ALONE, Bench, Budget
from benchmarks.gpu.causal import CausalDecoder
from benchmarks.gpu.log import Log
from benchmarks.gpu.model import SIZES, random_model, requests
from benchmarks.gpu.page import page
from benchmarks.gpu.profiles import busy_s
from benchmarks.gpu.record import Attempt, Finding, Record
from benchmarks.gpu.registry import PHASES, START_S
from benchmarks.gpu.supervisor import limits
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling, floor_s, step_flop
from dream import EngineConfig
from dream.options import declare
from tests.models import golden_engine

ROOT = Path(__file__).parents[2]
H200 = Rates(flop_per_s=790e12, bytes_per_s=4.3e12)
DREAM_7B = SIZES["7b"].shape
ABSENT = ("ray", "fastapi", "pydantic", "pyarrow", "matplotlib")
IMPORTS = f"""
import sys
import benchmarks.gpu.__main__, benchmarks.gpu.worker, benchmarks.gpu.rank
sys.exit(sorted(set({ABSENT}) & set(sys.modules)) or 0)
"""


def test_the_formulas_are_those_of_the_roofline():
    """Ceilings of one H200 at prompt 128, canvas 256, one token a step."""
    shape = {"prompt": 128, "canvas": 256, "itemsize": 2}

    assert step_flop(DREAM_7B, 1, 0, 0) == pytest.approx(13.05e9, rel=1e-3)
    assert step_flop(DREAM_7B, 1, 1, 0) - step_flop(DREAM_7B, 1, 0, 0) == pytest.approx(401_408)
    assert step_flop(DREAM_7B, 0, 0, 1) == pytest.approx(1.09e9, rel=1e-3)
    assert floor_s(DREAM_7B, H200, 2) == pytest.approx(3.29e-3, rel=1e-3)
    assert exact_ceiling(DREAM_7B, H200, **shape) == pytest.approx(148, rel=0.01)
    assert block_ceiling(DREAM_7B, H200, block=32, **shape) == pytest.approx(294, rel=0.01)


@pytest.mark.parametrize(
    ("value", "goal", "is_cost", "is_met"),
    [
        (0.7, 0.6, False, True),
        (0.5, 0.6, False, False),
        (0.7, 0.6, True, False),
        (1, None, False, None),
        (None, 0.6, False, None),
        (float("nan"), 0.6, True, False),
    ],
)
def test_a_goal_is_reached_from_its_own_side(value, goal, is_cost, is_met):
    finding = Finding(what="", value=value, unit="share", goal=goal, is_cost=is_cost)

    assert finding.is_met is is_met


def test_all_phases_and_their_processes_take_at_most_ten_minutes():
    processes = len({phase.process for phase in PHASES.values()})

    assert sum(phase.seconds for phase in PHASES.values()) + START_S * processes <= 600


def test_phases_of_one_process_follow_each_other():
    processes = [phase.process for phase in PHASES.values()]

    ends = [a for a, b in zip(processes, [*processes[1:], ""], strict=True) if a != b]
    assert len(ends) == len(set(ends))


@pytest.mark.parametrize("minutes", [2.0, 20.0])
def test_every_phase_gets_its_share_of_the_minutes(minutes):
    found = limits(PHASES, minutes)

    assert sum(found.values()) < 60 * minutes
    assert found["eager"] / found["rates"] == pytest.approx(60 / 12)


def test_the_page_says_which_goals_are_met_by_the_mode_that_comes_nearest():
    slow, fast = (
        Finding(what="exact", value=value, unit="tokens/s", mode=mode, goal=100)
        for value, mode in ((73.0, "eager"), (101.0, "compiled"))
    )
    missed = Finding(what="sampler", value=0.2, unit="share", goal=0.08, is_cost=True)
    skipped = Finding(what="varlen", note="needs CUDA")
    record = Record({"date": "today"}, {"a": Attempt(findings=[slow, fast, missed, skipped])})

    told = page(record).partition("## Goals")[2]

    assert "| exact | compiled | 101 | tokens/s | >= 100 | yes |" in told
    assert "eager" not in told
    assert "1 of 2 measured goals are met." in told
    assert "not yet: a." in told
    assert "| varlen |  | needs CUDA |  |  |  |" in page(record)


def test_busy_time_counts_kernels_that_run_together_once():
    assert busy_s([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4


def test_the_autoregressive_decoder_gives_token_by_token_what_it_gives_at_once():
    """Whatever stands in the places behind, which no token may see."""
    shape = SIZES["tiny"].shape
    model = random_model(shape, "float32", "cpu")
    decoder, whole = CausalDecoder(model, 2, 12), CausalDecoder(model, 2, 20)

    decoder.start(torch.randint(0, shape.vocab_size, (2, 5)))
    for _ in range(6):
        decoder.step()

    for count in range(11, 4, -1):
        whole.start(decoder.ids_BL[:, :count])
        assert torch.equal(whole.ids_BL[:, count], decoder.ids_BL[:, count])


def test_the_fastest_mode_that_was_measured_is_used(tmp_path):
    bench = Bench(size=SIZES["tiny"], device="cpu", log=tmp_path / "gpu.jsonl")
    assert bench.best_mode == "eager"

    log = Log(bench.log)
    log.begin("a", "")
    for mode, value in (("eager", 73.0), ("graphs", 80.0), ("compiled", 75.0)):
        log.add("a", Finding(what=ALONE, value=value, mode=mode))

    assert bench.best_mode == "graphs"


def test_the_benchmark_imports_no_package_that_a_gpu_machine_lacks():
    words = [sys.executable, "-c", IMPORTS]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("commits", [2, 4])
def test_max_commits_fills_so_many_tokens_at_a_forward(commits):
    params = {"window": "dual", "block_length": 8, "threshold": 0.0, "max_commits": commits}
    engine = golden_engine()

    engine.generate(requests(SIZES["tiny"], 1, prompt=4, holes=16, **params))

    assert engine.stats.forward_passes == 16 // commits


def test_without_a_gpu_the_default_device_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(SystemExit):
        main([])

    assert "--device cpu --size tiny" in capsys.readouterr().err


def test_weights_made_in_inference_mode_can_be_changed_later():
    with torch.inference_mode():
        model = random_model(SIZES["tiny"].shape, "float32", "cpu")

    model.lm_head.weight.mul_(2)


@dataclass(frozen=True, kw_only=True)
class Invariant(EngineConfig):
    """An engine's settings with the one whose cost is measured where it exists."""

    batch_invariant: bool = field(default=False, metadata=declare("For a test", "Speed"))


def test_the_cost_of_batch_invariant_is_measured_where_the_setting_exists(tmp_path, monkeypatch):
    for module in (benchmarks.gpu.bench, steps):
        monkeypatch.setattr(module, "EngineConfig", Invariant)
    bench = Bench(size=SIZES["tiny"], device="cpu", log=tmp_path / "gpu.jsonl")

    found = [finding.what for finding in steps.invariant(bench, Budget(10))]

    assert found[-2:] == ["cost of batch_invariant, one request", "cost of batch_invariant, a step"]
