"""Files of Dream's planning set: JSON lines with `input` and `output`, read as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jobs.common.errors import Refused
from jobs.tasks import countdown, sudoku
from jobs.tasks.base import Problem

__all__ = ["Format", "OfficialFile", "countdown_format", "read_official", "sudoku_format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What an input of a task looks like, in words and as a check, and where it is reported."""

    is_input: Callable[[str], bool]
    bucket: Callable[[str], str]
    allowed: str


class OfficialFile(NamedTuple):
    """The problems of a file in its order, and the digest of its bytes."""

    problems: list[Problem]
    sha256: str


def countdown_format(count: int) -> Format:
    """`count` numbers and a target: the rows of cd3_test.jsonl, cd4_test.jsonl, cd5_test.jsonl."""
    return Format(
        is_input=lambda text: countdown.num_numbers(text) == count,
        bucket=lambda text: f"{count} numbers",
        allowed=f"{count} numbers and a target, joined by commas",
    )


def sudoku_format(side: int) -> Format:
    """A puzzle with at least one blank: the rows of sudoku_4x4_10.jsonl and its like."""
    return Format(
        is_input=lambda text: 0 in (sudoku.read_lines(text, side) or ()),
        bucket=lambda text: f"{sum(cell in '123456789' for cell in text)} givens",
        allowed=f"{side} lines of {side} digits, 0 for a blank, with at least one blank",
    )


def read_official(path: str, row_format: Format) -> OfficialFile:
    """Every row of the file; an error names the file, the line and the field."""
    try:
        data = Path(path).read_bytes()
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: not readable as JSON lines: {error}") from error
    problems = [
        _read_row(f"{path} line {number}", line, row_format)
        for number, line in enumerate(lines, start=1)
    ]
    return OfficialFile(problems, hashlib.sha256(data).hexdigest())


def _read_row(place: str, line: str, row_format: Format) -> Problem:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise Refused(f"{place}: an object with input and output is expected")
    values: dict[str, str] = {}
    for field in ("input", "output"):
        value = row.get(field)
        if not isinstance(value, str):
            raise Refused(f"{place}: field {field!r} is {value!r}, not a string")
        values[field] = value
    if not row_format.is_input(values["input"]):
        raise Refused(f"{place}: field 'input' is {values['input']!r}, not {row_format.allowed}")
    return Problem(
        input=values["input"], reference=values["output"], bucket=row_format.bucket(values["input"])
    )
