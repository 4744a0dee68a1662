"""The list of docs/structure.md: every module with the first line of its docstring."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path

from benchmarks.markdown import Sections, table

__all__ = ["PACKAGES", "module_sections"]

PACKAGES = ("dream", "cluster", "deployments", "jobs")


def module_sections(root: Path) -> Sections:
    """A table for each package, named `modules of PACKAGE`."""
    return {f"modules of {name}": partial(_table, root / name) for name in PACKAGES}


def _table(package: Path) -> str:
    paths = sorted(package.rglob("*.py"), key=lambda path: _key(package, path))
    return table(["module", "what it is"], [[_name(package, path), _line(path)] for path in paths])


def _key(package: Path, path: Path) -> tuple[str, bool, str]:
    """A folder after the files beside it; in it the line of the folder itself first."""
    return path.parent.relative_to(package).as_posix(), path.name != "__init__.py", path.name


def _name(package: Path, path: Path) -> str:
    name = path.relative_to(package.parent).as_posix()
    return f"`{name.removesuffix('__init__.py')}`"


def _line(path: Path) -> str:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not told:
        raise ValueError(f"{path} has no docstring, whose first line docs/structure.md shows")
    return told.splitlines()[0]
