"""docs/performance.md says what was recorded."""

from __future__ import annotations

from benchmarks.performance_page import PAGE, RESULTS, SECTIONS, filled


def test_every_table_of_the_page_is_what_the_records_say():
    page = PAGE.read_text(encoding="utf-8")

    assert filled(page) == page
    for name in SECTIONS:
        assert f"<!-- {name} -->" in page
        assert f"<!-- end of {name} -->" in page


def test_what_the_page_shows_and_links_exists():
    page = PAGE.read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in page.split("](")[1:]]

    assert any(link.startswith("figures/") for link in links)
    for link in links:
        assert (PAGE.parent / link).exists(), link
    assert list(RESULTS.glob("frontier_embedded_*.md"))
