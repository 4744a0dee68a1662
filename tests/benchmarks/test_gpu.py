"""The benchmark of a GPU machine: its formulas, its goals, and a small run of all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_model import SIZES, Bench, Finding
from benchmarks.gpu_phases import PHASES
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling, floor_s, step_flop

ROOT = Path(__file__).parents[2]
H200 = Rates(flop_per_s=790e12, bytes_per_s=4.3e12)
DREAM_7B = SIZES["7b"].shape
RUN = """
import sys
from benchmarks.gpu import main
main(["--device", "cpu", "--size", "tiny", "--output", sys.argv[1]])
sys.exit(sorted({"ray", "fastapi", "pyarrow", "matplotlib"} & set(sys.modules)) or 0)
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
        (1, None, 0, None),
    ],
)
def test_a_goal_is_reached_from_its_own_side(value, goal, is_cost, is_met):
    finding = Finding(what="", value=value, unit="share", goal=goal, is_cost=is_cost)

    assert finding.is_met is is_met


def test_all_phases_together_leave_time_for_the_weights_in_ten_minutes():
    assert sum(seconds for _, seconds in PHASES.values()) <= 560


def test_a_phase_that_fails_is_recorded_and_the_others_go_on(monkeypatch, tmp_path):
    def fail(bench, budget):
        raise RuntimeError("no such kernel")

    def succeed(bench, budget):
        return [Finding(what="speed", value=2.0, unit="tokens/s")]

    monkeypatch.setattr(gpu, "PHASES", {"first": (fail, 1), "second": (succeed, 1)})

    found, errors = gpu.measure(Bench(size=SIZES["tiny"], device="cpu", model=None))
    about = {"date": "2026-11-21", "device": "A GPU (1)", "processor": ""}
    stem = gpu.record(tmp_path, about, found, errors)

    assert [finding.what for finding in found] == ["speed"]
    assert stem.name == "gpu_a_gpu_1_202611"
    assert "first failed: RuntimeError: no such kernel" in stem.with_suffix(".md").read_text()


def test_one_command_runs_every_phase_without_ray(tmp_path):
    words = [sys.executable, "-c", RUN, str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)

    (path,) = tmp_path.glob("gpu_*.json")
    told = json.loads(path.read_text())
    named = " ".join(row["what"] for row in told["rows"])

    # The phase of windows says so where the engine has none.
    assert set(told["errors"]) <= {"windows"}
    assert all(row["value"] > 0 for row in told["rows"])
    for word in ("square product", "copy", "step of 64 rows", "exact", "engine over loop"):
        assert word in named
    steps = [row["detail"] for row in told["rows"] if "apply" in row["detail"]]
    assert [step["step"] > step["forward"] > 0 for step in steps] == [True, True]
