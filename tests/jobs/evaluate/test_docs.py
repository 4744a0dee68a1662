"""The page on evaluation tells the truth: its commands parse and its tables are whole.

Its example is run by tests/integration/test_evaluate.py.
"""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import typer.main
import yaml

from dream import EngineConfig, SamplingParams
from dream.options import options_of
from jobs.__main__ import app
from jobs.evaluate.command import evaluate
from jobs.evaluate.config import load_eval_spec
from jobs.evaluate.departures import refuse_without_data
from jobs.evaluate.suites import SUITES, build_suites

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "evaluation.md").read_text(encoding="utf-8")
DECODING = (DOCS / "decoding.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"python -m jobs evaluate (.*)")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def settings_of(line):
    """The settings of a command, as the command itself takes them from its flags."""
    command = typer.main.get_command(app).commands["evaluate"]
    params = command.make_context("evaluate", shlex.split(line)).params
    return {name: value for name, value in params.items() if value not in (None, [], (), False)}


def test_every_command_in_the_guide_is_an_evaluation_that_could_begin():
    lines = COMMAND.findall("".join(blocks("sh") + blocks("text")))
    assert len(lines) == 2

    for line in lines:
        spec = load_eval_spec(settings_of(line) | {"num": 2})
        refuse_without_data(spec)
        if spec.data is None:
            assert len(build_suites(spec.suite, spec.options())) == len(spec.suite)


def test_every_flag_and_every_suite_is_in_the_guide():
    declared = {*options_of(SamplingParams), *options_of(EngineConfig)}
    for name in set(inspect.signature(evaluate).parameters) - {"ctx"} - declared:
        assert f"--{name.replace('_', '-')}" in GUIDE
    for name in SUITES:
        assert f"`{name}`" in GUIDE


def test_the_settings_may_stand_in_a_file(tmp_path):
    (line, *_) = COMMAND.findall("".join(blocks("sh")))
    settings = settings_of(line)
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(settings))

    assert load_eval_spec({}, config) == load_eval_spec(settings)
