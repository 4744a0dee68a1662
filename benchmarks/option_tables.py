"""Tables of docs/decoding.md and docs/engine-settings.md: every option as it is declared."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from benchmarks.markdown import Sections, table
from dream.options import Option, options_of

__all__ = ["option_sections"]


def option_sections(owner: type) -> Sections:
    """A table for each group of a dataclass's options, named `options: GROUP`."""
    options = options_of(owner).values()
    groups = dict.fromkeys(option.group for option in options)
    return {
        f"options: {group}": partial(_table, [one for one in options if one.group == group])
        for group in groups
    }


def _table(options: Iterable[Option]) -> str:
    rows = [[f"`{one.name}`", one.allowed, _default(one), one.help] for one in options]
    return table(["name", "allowed", "default", "what it does"], rows)


def _default(option: Option) -> str:
    if option.is_required:
        return "required"
    if isinstance(option.default, bool):
        return str(option.default).lower()
    if isinstance(option.default, float):
        return f"{option.default:g}"
    return str(option.default)
