"""The ground of jobs: what every room stands on, and what therefore names no room."""

from __future__ import annotations

import ast
from pathlib import Path

import jobs.common

FOLDER = Path(jobs.common.__file__).parent


def test_common_imports_no_room_of_jobs():
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        rooms = [name for name in named if name.startswith("jobs.")]
        assert all(name.startswith("jobs.common.") for name in rooms), path


def test_a_file_is_replaced_and_a_seed_derived_in_one_place_of_jobs():
    texts = {path: path.read_text(encoding="utf-8") for path in FOLDER.parent.rglob("*.py")}

    for needle, home in (("os.replace", "files.py"), ("key=secret", "seeds.py")):
        assert [path.name for path, text in texts.items() if needle in text] == [home]
