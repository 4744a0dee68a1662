"""The page on training tells the truth: its commands parse, its example loads, all is told."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main
import yaml

from jobs.__main__ import app
from jobs.train.config import TrainSpec, load_train_spec
from jobs.train.corpus import TASK_VARIANTS
from jobs.train.sft import COLUMNS

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_command_parses():
    command = typer.main.get_command(app).commands["train"]
    lines = "".join(blocks("sh")).splitlines()

    for line in lines:
        arguments = shlex.split(line)
        assert arguments[:4] == ["python", "-m", "jobs", "train"]
        context = command.make_context("train", arguments[4:])
        assert context.params["output"]
        assert (context.params["from_"] == "qwen2") == (context.params["path"] is not None)


def test_the_example_is_a_run():
    spec = load_train_spec(
        {"output": "out", "from": "qwen2 folder"} | yaml.safe_load(*blocks("yaml"))
    )

    assert spec.parallel == "fsdp"
    assert spec.from_place == "folder"


def test_every_setting_variant_and_column_is_told_with_its_default():
    for name, field in TrainSpec.model_fields.items():
        key = f"`{field.alias or name}`"
        row = next(line for line in PAGE.splitlines() if line.startswith("| `") and key in line)
        told = row.split("|")[-2]
        if field.default not in (None, False) and not field.is_required():
            assert str(field.default) in told, name
    for name in (*TASK_VARIANTS, *(column for columns in COLUMNS.values() for column in columns)):
        assert f"`{name}`" in PAGE
