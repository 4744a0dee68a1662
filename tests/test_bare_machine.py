"""What a GPU machine runs needs torch, transformers, numpy and pytest, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.gpu.record import read
from benchmarks.gpu.registry import PHASES
from tests.bare_machine import ABSENT, bare_environment

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return bare_environment(tmp_path_factory.mktemp("bare") / "venv")


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's own Python in the repository, with nothing of this one's path."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


def test_the_environment_lacks_what_a_gpu_machine_lacks(python):
    code = "from importlib.util import find_spec; import sys; "
    code += "print([name for name in sys.argv[1:] if find_spec(name)])"

    done = run(python, "-c", code, *ABSENT)

    assert done.stdout.strip() == "[]"


def test_all_gpu_tests_are_collected_and_run_there(python):
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu or not gpu", "-v", "tests/gpu"]

    done = run(python, *words)

    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("test_bfloat16_fills_every_hole[cpu] PASSED", "[cuda]", "no_step_waits"):
        assert told in done.stdout


def test_the_benchmark_runs_every_phase_there(python, tmp_path):
    words = ["-m", "benchmarks.gpu", "--device", "cpu", "--size", "tiny"]

    done = run(python, *words, "--output", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    record = read(next(tmp_path.glob("gpu_*.jsonl")))
    assert list(record.phases) == list(PHASES)
    assert {name: attempt.error for name, attempt in record.phases.items() if attempt.error} == {}
    assert all(attempt.findings for attempt in record.phases.values())
    needs_cuda = [one for one in record.findings if one.note == "needs CUDA"]
    assert {one.mode for one in needs_cuda} == {"", "graphs", "compiled", "compiled, graphs"}
    equal = [one.value for one in record.findings if one.what.startswith("tokens")]
    assert {value for value in equal if value is not None} == {1.0}
    steps = [one.detail for one in record.findings if one.table == "stages"]
    assert [step["step"] > step["forward"] > 0 for step in steps] == [True, True]
