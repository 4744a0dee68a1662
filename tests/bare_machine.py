"""A Python environment with only what a machine for measurements has."""

from __future__ import annotations

import re
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["ABSENT", "bare_environment"]

WANTED = ("numpy", "pytest", "safetensors", "torch", "transformers")
ABSENT = ("pydantic", "ray", "fastapi", "starlette", "pyarrow", "matplotlib", "hypothesis", "xdist")
"""Modules that are not there; something wanted may require the first, and runs without it."""


def bare_environment(folder: Path) -> Path:
    """The interpreter of a new environment with links to the wanted packages installed here."""
    venv.create(folder, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    for found in _closure(WANTED):
        for name in _tops(found):
            target = Path(str(found.locate_file(name)))
            if target.exists() and not (site / name).exists():
                (site / name).symlink_to(target)
    return folder / "bin" / Path(sys.executable).name


def _closure(names: tuple[str, ...]) -> list[Distribution]:
    """The distributions and all that they require, without those that are to be absent."""
    found: dict[str, Distribution] = {}
    left = list(names)
    while left:
        name = re.sub("[-_.]+", "-", left.pop()).lower()
        if name in found or name.startswith("pydantic"):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                left.append(needed.name)
    return list(found.values())


def _tops(found: Distribution) -> set[str]:
    """Files and folders of a distribution in site-packages; not its commands."""
    tops = {path.parts[0] for path in found.files or []}
    return {top for top in tops if top not in ("..", "__pycache__")}
