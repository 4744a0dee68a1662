"""What pydantic found wrong with settings, told by field, value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

__all__ = ["Wrong", "explained", "wrongs"]


class Wrong(NamedTuple):
    """A value that is refused; `field` is empty where a rule of several fields was broken."""

    field: str
    value: object
    allowed: str
    kind: str

    def __str__(self) -> str:
        if self.kind == "value_error":
            return f"{self.field}: {self.allowed}" if self.field else self.allowed
        return f"{self.field}={self.value!r} is not valid: {self.allowed}"


def wrongs(error: ValidationError) -> list[Wrong]:
    """Each wrong value once, with everything that its field would have taken instead."""
    found = [_wrong(p["loc"], p["input"], p["msg"], p["type"]) for p in error.errors()]
    groups = [list(same) for _, same in groupby(found, lambda wrong: (wrong[0], id(wrong[1])))]
    return [
        same[0]._replace(allowed=" or ".join(dict.fromkeys(wrong.allowed for wrong in same)))
        for same in groups
    ]


def explained(error: ValidationError, kind: type[BaseModel], *, as_flags: bool = False) -> str:
    """Everything that is wrong with the settings of this kind, in one line."""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    return "; ".join(_told(wrong, known, as_flags) for wrong in wrongs(error))


def _told(wrong: Wrong, known: Sequence[str], as_flags: bool) -> str:
    if wrong.kind == "extra_forbidden":
        close = difflib.get_close_matches(wrong.field, known, n=1)
        return f"{wrong.field}: no such setting" + (f"; did you mean {close[0]}?" if close else "")
    if wrong.kind == "missing":
        field = f"--{wrong.field.replace('_', '-')}" if as_flags else wrong.field
        return f"{field} is required"
    return str(wrong)


def _wrong(location: Iterable[int | str], value: object, message: str, kind: str) -> Wrong:
    """Places in a list and names of types, which follow them, are not what a user wrote."""
    names = takewhile(lambda part: isinstance(part, str), location)
    allowed = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return Wrong(".".join(map(str, names)), value, allowed.partition(", unable to ")[0], kind)
