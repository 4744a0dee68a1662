"""What an option is, declared once: as metadata of a dataclass field.

`SamplingParams` and `EngineConfig` declare their fields with `declare`. HTTP bodies, settings of
jobs, flags, Parquet columns and the tables of the docs are made from `options_of`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dream.errors import InvalidRequest

__all__ = ["Option", "check_options", "declare", "options_of"]

KEY = "option"
"""Where a field's metadata has its declaration."""

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One declared field: the upper part is written beside it, the rest is read off it.

    help: one line. group: the table of the docs that it stands in. low, high: bounds of a number;
    `is_open` leaves them out, `or_zero` allows 0 beside them. pattern: what a str has to match, and
    that in words. draws: whether a value other than
    None, 0 and False makes noise matter, or which values do. changes_tokens: False where no token
    depends on it (on a GPU tokens may differ at near-ties).

    annotation: its type as written, for pydantic and typer. kind: int, float, bool or str.
    is_optional: None is allowed. is_required: it has no default, which then reads None.
    choices: the only values of a str.
    """

    help: str
    group: str
    low: Number | None = None
    high: Number | None = None
    is_open: bool = False
    or_zero: bool = False
    pattern: tuple[str, str] | None = None
    draws: bool | tuple[str, ...] = False
    changes_tokens: bool = True

    name: str = ""
    annotation: Any = None
    kind: type = str
    is_optional: bool = False
    is_required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Every value it takes, in words."""
        return f"None or {self._values()}" if self.is_optional else self._values()

    def check(self, value: object) -> None:
        """InvalidRequest where the value is of the wrong type or out of bounds."""
        if value is None and self.is_optional:
            return
        if not (self._is_of_kind(value) and self._is_in_bounds(value)):
            raise InvalidRequest(self.name, value, self.allowed)

    def is_drawing(self, value: object) -> bool:
        """Whether this value makes noise matter."""
        return value in self.draws if isinstance(self.draws, tuple) else self.draws and bool(value)

    def _is_of_kind(self, value: object) -> bool:
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        if self.kind is float:
            return isinstance(value, int | float) and abs(value) <= sys.float_info.max
        return isinstance(value, self.kind)

    def _is_in_bounds(self, value: object) -> bool:
        if isinstance(value, int | float):
            return (value == 0 and self.or_zero) or self._is_in_range(value)
        if self.pattern is not None:
            return re.fullmatch(self.pattern[0], str(value)) is not None
        return value in self.choices if self.choices else bool(value)

    def _is_in_range(self, value: Number) -> bool:
        if self.is_open and value in (self.low, self.high):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def _values(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.pattern is not None:
            return self.pattern[1]
        if self.kind is str:
            return "a non-empty string"
        noun = "an integer" if self.kind is int else "a number"
        return ("0 or " if self.or_zero else "") + noun + self._range()

    def _range(self) -> str:
        if self.low is None:
            return ""
        if self.high is None:
            return f" {'>' if self.is_open else '>='} {self.low:g}"
        if self.kind is int:
            return f" {self.low}..{self.high}"
        ends = "()" if self.is_open else "[]"
        return f" in {ends[0]}{self.low:g}, {self.high:g}{ends[1]}"


def declare(
    help: str,
    group: str,
    bounds: tuple[Number | None, Number | None] = (None, None),
    *,
    is_open: bool = False,
    or_zero: bool = False,
    pattern: tuple[str, str] | None = None,
    draws: bool | tuple[str, ...] = False,
    changes_tokens: bool = True,
) -> Mapping[str, Option]:
    """Metadata of a field that is an option; see `Option`."""
    return {
        KEY: Option(
            help=help,
            group=group,
            low=bounds[0],
            high=bounds[1],
            is_open=is_open,
            or_zero=or_zero,
            pattern=pattern,
            draws=draws,
            changes_tokens=changes_tokens,
        )
    }


@cache
def options_of(owner: type) -> Mapping[str, Option]:
    """Every option of a dataclass by its name, in the order of its fields."""
    types = get_type_hints(owner)
    return {field.name: _read(field, types[field.name]) for field in fields(owner)}


def check_options(values: object) -> None:
    """InvalidRequest for the first field of a dataclass that is out of its bounds."""
    owner: type = type(values)
    for name, one in options_of(owner).items():
        one.check(getattr(values, name))


def _read(field: Field[Any], annotation: object) -> Option:
    is_union = get_origin(annotation) in (Union, UnionType)
    parts = get_args(annotation) if is_union else (annotation,)
    [inner] = [part for part in parts if part is not NoneType]
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    declared: Option = field.metadata[KEY]
    return replace(
        declared,
        name=field.name,
        annotation=annotation,
        kind=str if choices else inner,
        is_optional=NoneType in parts,
        is_required=field.default is MISSING,
        default=None if field.default is MISSING else field.default,
        choices=choices,
    )
