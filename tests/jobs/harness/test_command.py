"""The harness's own command line drives the engine: `python -m jobs.harness`, and `lm_eval`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from jobs.harness.adapter import DreamLM

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "evaluation-harness.md").read_text(encoding="utf-8")
SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "which",
    [pytest.param(0, marks=pytest.mark.slow), 1],
    ids=["jobs.harness", "lm_eval"],
)
def test_the_guide_runs_and_prints_what_it_says(tmp_path, which):
    """In a process of its own, without a network."""
    blocks = re.findall(r"```(json|yaml|sh)\n(.*?)```", GUIDE, re.DOTALL)
    rows, fill, choose, brings_model = (text for kind, text in blocks if kind != "sh")
    command = [text for kind, text in blocks if kind == "sh"][which]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "puzzles.jsonl").write_text(rows)
    (tmp_path / "tasks" / "fill.yaml").write_text(fill)
    (tmp_path / "tasks" / "choose.yaml").write_text(choose)
    (tmp_path / "dream.yaml").write_text(brings_model)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}

    done = subprocess.run(
        shlex.split(command),
        cwd=tmp_path,
        env={
            "OMP_NUM_THREADS": "1",
            "PATH": f"{SCRIPTS}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            **offline,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert command.startswith(["python -m jobs.harness run ", "lm_eval run "][which])
    assert done.returncode == 0, done.stderr
    results = json.loads(next((tmp_path / "out").rglob("results_*.json")).read_text())["results"]
    assert results["sudoku_fill"]["exact_match,none"] == 1
    assert results["sudoku_choose"]["acc,none"] == 1


def test_the_entry_point_by_which_lm_eval_finds_the_model_names_the_adapter():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    ((name, value),) = groups["lm_eval.models"].items()

    assert name == "dream"
    assert EntryPoint(name, value, "lm_eval.models").load() is DreamLM
