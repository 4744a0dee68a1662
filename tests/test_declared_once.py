"""A sampling parameter is declared once: one more field of it is everywhere in jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("dream", "cluster", "deployments", "jobs")
END_OF_FIELDS = "\n    def __post_init__(self)"
FIELD = """
    throwaway: float | None = field(
        default=None, metadata=declare("Only in this test", TOKENS, (0, 10))
    )
"""

CHECKS = """
import sys
from pathlib import Path

import pyarrow as pa
from typer.testing import CliRunner

import dream
from dream.errors import InvalidRequest
from jobs.__main__ import app
from jobs.evaluate.config import load_eval_spec
from jobs.fill.columns import input_columns
from jobs.fill.config import load_spec
from jobs.fill.rows import prepare
from jobs.harness.args import GenerationArgs, ModelArgs

here = Path(sys.argv[1])
assert Path(dream.__file__).is_relative_to(here), dream.__file__

for command in ("run", "evaluate"):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert "--throwaway" in shown and "Only in this test" in shown, shown

job = {"input": "in", "output": "out", "task": "generate", "model": "embedded"}
config = here / "job.yaml"
config.write_text("throwaway: 2.5")
spec = load_spec(job, config)
assert spec.sampling().throwaway == 2.5
assert spec.identity()["throwaway"] == 2.5

evaluation = {"suite": "lists", "output": "out", "model": "embedded"}
of_evaluation = load_eval_spec(evaluation, config)
assert of_evaluation.job(of_evaluation.variants[0]).sampling().throwaway == 2.5
assert of_evaluation.identity()["throwaway"] == 2.5

schema = pa.schema([("prompt", pa.string()), ("throwaway", pa.int8())])
columns = input_columns(spec, schema)
for own, wanted in ((7, 7), (None, 2.5)):
    assert prepare({"prompt": "a", "throwaway": own}, spec, columns, 1).params.throwaway == wanted
try:
    prepare({"prompt": "a", "throwaway": 11}, spec, columns, 1)
except InvalidRequest as error:
    assert error.field == "throwaway"
else:
    raise AssertionError("a value out of bounds was taken")

args = ModelArgs(pretrained="embedded", throwaway=3)
assert args.sampling().throwaway == 3
assert GenerationArgs(**args.sampling_values() | {"throwaway": 4}).of_request().throwaway == 4
"""


def test_one_more_field_is_a_flag_a_key_a_column_and_a_model_arg(tmp_path):
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    params = tmp_path / "dream" / "params.py"
    text = params.read_text(encoding="utf-8")
    assert text.count(END_OF_FIELDS) == 1
    params.write_text(text.replace(END_OF_FIELDS, FIELD + END_OF_FIELDS), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", CHECKS, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
