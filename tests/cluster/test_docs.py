"""Tests of docs/cluster.md: its commands run, and print what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.__main__ import app
from cluster.settings import EngineSettings
from dream.memory import CUDA_CONTEXT, DREAM_7B, GIB, plan

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cluster.md").read_text()
PREFIX = "python -m cluster "
SHELL = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
CONSOLE = re.findall(r"```console\n\$ (.*?)\n(.*?)```", TEXT, re.DOTALL)
RENDERS = [
    line for block in SHELL for line in block.splitlines() if line.startswith(f"{PREFIX}render")
]


def call(command):
    return CliRunner().invoke(app, shlex.split(command.removeprefix(PREFIX)))


def lines(text):
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("command", RENDERS)
def test_every_render_command_works(command):
    assert call(command).exit_code == 0


@pytest.mark.parametrize(("command", "printed"), CONSOLE)
def test_every_plan_prints_what_the_page_says(monkeypatch, command, printed):
    monkeypatch.chdir(ROOT)

    assert lines(call(command).output) == lines(printed)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_memory_table_is_what_the_plan_gives(size):
    need = plan(DREAM_7B, EngineSettings(tensor_parallel=size))
    parts = (need.weights, need.activations, need.logits, need.cache, need.reserve)
    sizes = (*parts, need.total, need.total + CUDA_CONTEXT)

    row = " | ".join(f"{part / GIB:.2f} GiB" for part in sizes)

    assert f"| {size} | {row} |" in TEXT


def test_the_page_has_commands_to_test():
    assert len(RENDERS) == 6
    assert len(CONSOLE) == 5
