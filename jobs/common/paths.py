"""Paths in settings: absolute, so that a resume runs anywhere, and such as Ray can read."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

__all__ = ["InputPaths", "OutputPath", "absolute", "odd_letters"]


def odd_letters(path: str) -> str:
    """Letters of a path that Ray Data reads as parts of a URL, so that it would miss the file."""
    return " ".join(letter for letter in "%#?;" if letter in path)


def absolute(path: str) -> str:
    """The path from the root; ValueError for what is no path of a file system."""
    if "://" in path and not path.startswith("file://"):
        raise ValueError(f"{path}: only paths that every node can open are served, not URIs")
    if "\0" in path:
        raise ValueError(f"{path!r}: no path holds a NUL")
    return os.path.abspath(os.path.expanduser(path.removeprefix("file://")))


def _output(path: str) -> str:
    if odd := odd_letters(absolute(path)):
        raise ValueError(f"{path}: a path without {odd} is needed")
    return absolute(path)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _all_absolute(paths: list[str]) -> list[str]:
    return [absolute(path) for path in paths]


OutputPath = Annotated[str, Field(min_length=1), AfterValidator(_output)]
"""Folder that a job writes."""

InputPaths = Annotated[
    list[str], Field(min_length=1), BeforeValidator(_listed), AfterValidator(_all_absolute)
]
"""Folders, files or globs that a job reads; one of them may stand alone."""
