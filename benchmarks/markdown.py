"""Markdown that is written by programs: tables, and the marked parts of a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Sections", "filled", "table"]

Sections = Mapping[str, Callable[[], str]]
"""What stands between `<!-- NAME -->` and `<!-- end of NAME -->`, by name."""


def filled(page: str, sections: Sections) -> str:
    """The page with each section between its marks; ValueError where a mark is missing."""
    for name, section in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page needs {start} and, behind it, {end}")
        page = f"{before}{start}\n\n{section()}\n\n{end}{after}"
    return page


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], num_numbers: int = 0) -> str:
    """A table whose last `num_numbers` columns are numbers, so they stand on the right."""
    aligned = ["---"] * (len(heads) - num_numbers) + ["--:"] * num_numbers
    lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|" + "|".join(aligned) + "|", *lines[1:]])


def _escaped(cell: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", cell)
