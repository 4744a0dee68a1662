"""The guide tells the truth: its commands parse, its tables are complete, its examples run."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer.main

from dream import EngineConfig, SamplingParams
from dream.options import options_of
from jobs.__main__ import app, main, run
from jobs.fill.columns import OUTPUT_NAMES

GUIDE = (Path(__file__).parents[3] / "docs" / "jobs.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"python -m jobs (\w+) (.*)")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_every_command_in_the_guide_parses():
    commands = typer.main.get_command(app).commands
    lines = [line for language in ("sh", "text") for text in blocks(language) for line in [text]]
    found = COMMAND.findall("\n".join(lines))
    assert len(found) >= 5

    for name, rest in found:
        context = commands[name].make_context(name, shlex.split(rest))
        assert context.params["output"] is not None or context.params["config"] is not None


def test_every_flag_and_every_output_column_is_in_the_guide():
    """Flags of declared options stand on the page that is made of the declaration."""
    declared = {*options_of(SamplingParams), *options_of(EngineConfig)}
    for name in set(inspect.signature(run).parameters) - {"ctx"} - declared:
        assert f"--{name.replace('_', '-')}" in GUIDE
    for name in OUTPUT_NAMES:
        assert f"`{name}`" in GUIDE


def test_the_guide_names_every_engine_setting_that_changes_no_row():
    for name, one in options_of(EngineConfig).items():
        assert one.changes_tokens or f"`{name}`" in GUIDE


@pytest.mark.ray
def test_the_examples_run_in_order(tmp_path, monkeypatch, capsys):
    """The first as a user runs it, with a Ray of its own; the others in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    subprocess.run([sys.executable, "-c", blocks("python")[0]], check=True)
    (tmp_path / "job.yaml").write_text(blocks("yaml")[0])

    first, *others = "".join(blocks("sh")).splitlines()
    subprocess.run([sys.executable, *shlex.split(first)[1:]], check=True)
    for line in others:
        arguments = shlex.split(line)
        assert arguments[:3] == ["python", "-m", "jobs"]
        with pytest.raises(SystemExit) as end:
            main(arguments[3:])
        assert not end.value.code

    assert "3 rows in and out" in capsys.readouterr().out
    rows = pq.read_table("filled/data").sort_by("src_row").to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    assert rows[0]["output"].startswith("S:1")
