"""Every module that a task or a training row is made by is part of its digest."""

from __future__ import annotations

import ast
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dream.model.loader import EMBEDDED
from jobs.tasks.sources import source_sha256, task_modules
from jobs.train.config import RECIPES
from jobs.train.corpus import TASK_VARIANTS, rows_sha256
from jobs.train.export import SEEN
from jobs.train.record import identity_of, row_modules
from tests.jobs.train.trainrun import spec_of

TASKS = sorted({one.sample.__module__ for one in TASK_VARIANTS.values()})


def imports_of(module: str) -> set[str]:
    """Modules of `jobs.tasks` that a module imports."""
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))
    named = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = {node.module for node in named}
    found |= {f"{node.module}.{name.name}" for node in named for name in node.names}
    return {name for name in found if name.startswith("jobs.tasks.") and find_spec_of(name)}


def find_spec_of(name: str) -> bool:
    """Whether the name is a module, not something in one."""
    return (Path(find_spec("jobs").origin).parents[1] / f"{name.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_imports_is_part_of_it(task):
    modules = task_modules(task)

    assert task in modules
    for module in modules:
        assert imports_of(module) <= set(modules)


def test_a_digest_tells_names_and_code_and_not_their_order():
    tasks = [task_modules(task) for task in TASKS]

    assert len({source_sha256(modules) for modules in tasks}) == len(TASKS)
    assert source_sha256(["json", "ast"]) == source_sha256(["ast", "json", "ast"])


def test_a_digest_changes_with_a_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_task.py").write_text("A = 1\n")
    before = source_sha256(["some_task"])

    (tmp_path / "some_task.py").write_text("A = 2\n")

    assert source_sha256(["some_task"]) != before
    assert "some_task" not in sys.modules


def test_the_rows_of_a_run_are_made_by_its_tasks_and_by_what_draws_and_orders_them():
    modules = row_modules(("sudoku", "lists"))

    assert {"jobs.tasks.sudoku", "jobs.tasks.sudoku_grids", "jobs.tasks.lists"} <= modules
    assert {f"jobs.train.{name}" for name in ("corpus", "data", "objective", "order")} <= modules
    assert "jobs.tasks.prose" not in modules


@pytest.mark.parametrize("recipe", ["embedded", "embedded-continued"])
def test_the_rows_of_the_embedded_checkpoint_are_drawn_as_when_it_was_trained(recipe):
    """By both of its runs."""
    card = json.loads((EMBEDDED / "card.json").read_text())
    run = card if recipe == "embedded-continued" else card["started_from"]
    settings = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())

    keys = ("mix", "batch_size", "seed")
    assert {key: run["recipe"][key] for key in keys} == {key: settings[key] for key in keys}
    assert run["data"]["rows_sha256"] == rows_sha256(*(settings[key] for key in keys))
    assert run["data"]["seen"] == SEEN


def test_the_digest_of_rows_changes_with_the_seed_and_the_mix():
    digests = {rows_sha256({"lists": 1}, 8, 0), rows_sha256({"lists": 1}, 8, 1)}

    assert len(digests | {rows_sha256({"lists": 1, "prose": 1}, 8, 0)}) == 3


def test_a_run_over_files_goes_on_with_the_same_code_only(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
    parquet = spec_of(mix=None, parquet=str(tmp_path / "rows.parquet"))

    assert identity_of(parquet)["generator_sha256"] == source_sha256(row_modules(()))
    assert identity_of(spec_of())["generator_sha256"] != source_sha256(row_modules(()))
