"""Generated parts of the pages under docs/ say what declarations, docstrings and records say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.markdown import filled, table
from benchmarks.module_list import PACKAGES, module_sections
from benchmarks.option_tables import option_sections
from benchmarks.pages import DOCS, PAGES, ROOT
from dream import EngineConfig, SamplingParams
from dream.options import declare, options_of


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_is_generated(name):
    page = (DOCS / name).read_text(encoding="utf-8")

    assert filled(page, PAGES[name]) == page, "`python -m benchmarks.pages` writes it anew"


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_and_links_exists(name):
    page = (DOCS / name).read_text(encoding="utf-8")

    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", page):
        linked = DOCS / (target or name)
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor.removeprefix("#") in slugs, f"{target}{anchor}"


@pytest.mark.parametrize(
    ("name", "owner"), [("decoding.md", SamplingParams), ("engine-settings.md", EngineConfig)]
)
def test_every_option_has_one_row_under_the_title_of_its_group(name, owner):
    page = (DOCS / name).read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}

    for option in options_of(owner).values():
        row = f"| `{option.name}` | {option.allowed} | "
        assert page.count(row) == sections[option.group].count(row) == 1, option.name


def test_an_option_is_in_the_tables_once_it_is_declared():
    @dataclass(frozen=True)
    class Declared:
        width: int | None = field(default=None, metadata=declare("How wide", "Shape", (1, 9)))
        share: float = field(default=0.5, metadata=declare("Left | right", "Shape", (0, 1)))
        name: str = field(default="a", metadata=declare("What it is called", "Names"))

    sections = option_sections(Declared)

    assert list(sections) == ["options: Shape", "options: Names"]
    assert sections["options: Shape"]().splitlines()[2:] == [
        "| `width` | None or an integer 1..9 | None | How wide |",
        r"| `share` | a number in [0, 1] | 0.5 | Left \| right |",
    ]


def test_every_module_is_listed_once():
    page = (DOCS / "structure.md").read_text(encoding="utf-8")
    listed = Counter(re.findall(r"^\| `([^`]+)` \|", page, re.M))

    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix().removesuffix("__init__.py")
            assert listed.pop(name) == 1, name
    assert not listed


def test_a_module_without_a_docstring_is_named(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "jobs" / "new.py").write_text("x = 1\n")

    with pytest.raises(ValueError, match=r"jobs/new\.py has no docstring"):
        module_sections(tmp_path)["modules of jobs"]()


@pytest.mark.parametrize("page", ["", "<!-- a -->", "<!-- end of a -->\n<!-- a -->"])
def test_a_page_without_the_marks_of_a_section_is_refused(page):
    with pytest.raises(ValueError, match="<!-- a -->"):
        filled(page, {"a": lambda: "text"})


def test_a_section_replaces_what_stands_between_its_marks_and_nothing_else():
    page = "before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n"

    once = filled(page, {"a": lambda: table(["x", "y"], [["1", "2"]], 1)})

    assert once == (
        "before\n<!-- a -->\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n<!-- end of a -->\nafter\n"
    )
    assert (
        filled(once, {"a": lambda: "z"}) == "before\n<!-- a -->\n\nz\n\n<!-- end of a -->\nafter\n"
    )


def test_every_record_of_results_has_its_numbers_and_its_page():
    results = Path(ROOT, "benchmarks/results")
    names = {
        suffix: {path.stem for path in results.glob(f"*{suffix}")} for suffix in (".md", ".json")
    }

    assert names[".md"] == names[".json"]
