"""The page of a record: findings, tables of detail, how each phase ended, which goals are met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.gpu.record import Finding, Record
from benchmarks.markdown import table

__all__ = ["page", "row"]

_Told = Callable[[float], str]


def page(record: Record) -> str:
    """The whole page as Markdown."""
    lines = ["# Dream 7B's shape on a GPU", ""]
    lines += [f"- {name}: {value}" for name, value in record.about.items()]
    for title, body in _parts(record):
        lines += ["", f"## {title}", "", body]
    return "\n".join(lines) + "\n"


def row(finding: Finding) -> str:
    """A finding as a line of text."""
    what, *cells = _cells(finding)
    return f"{what:<48} " + "  ".join(cell for cell in cells if cell)


def _parts(record: Record) -> Iterator[tuple[str, str]]:
    found = record.findings
    heads = ["what", "mode", "value", "unit", "goal", "met"]
    yield "Findings", table(heads, [_cells(finding) for finding in found])
    if stages := _of_table(found, "stages"):
        yield (
            "Milliseconds of a step by stage (the head is part of commit)",
            _wide("step", stages, lambda value: f"{value:.3g}"),
        )
    if products := _of_table(found, "products"):
        yield "TFLOP/s of each linear layer by rows", _wide("weights", products, _number)
    for finding in _of_table(found, "kernels"):
        rows = [[f"`{name}`", f"{value:.3f}"] for name, value in finding.detail.items()]
        yield f"The {_title(finding)}", table(["kernel", "ms"], rows, 1)
    yield "Phases", _phases(record)
    yield "Goals", "\n\n".join([_goals(found), *_not_counted(record)])


def _phases(record: Record) -> str:
    rows, logs = [], []
    for name, attempt in record.phases.items():
        seconds = "" if attempt.seconds is None else f"{attempt.seconds:.1f}"
        end = "not ended" if attempt.is_open else attempt.error or "ended well"
        found = str(len(attempt.findings))
        rows.append([name, attempt.doc, found, seconds, end.replace("\n", " ")])
        if attempt.log:
            logs += ["", f"{name}:", "", "```", attempt.log.replace("```", "'''"), "```"]
    heads = ["phase", "what it measures", "findings", "s", "how it ended"]
    return "\n".join([table(heads, rows), *logs])


def _goals(found: Sequence[Finding]) -> str:
    """Each goal once, by the mode that comes nearest to it, and how many are met."""
    best: dict[str, Finding] = {}
    for finding in found:
        if finding.is_met is None:
            continue
        before = best.setdefault(finding.what, finding)
        if _order(finding) > _order(before):
            best[finding.what] = finding
    if not best:
        return "No goal was measured."
    met = sum(finding.is_met is True for finding in best.values())
    heads = ["goal", "mode", "value", "unit", "goal", "met"]
    told = table(heads, [_cells(finding) for finding in best.values()])
    return f"{told}\n\n{met} of {len(best)} measured goals are met."


def _not_counted(record: Record) -> Iterator[str]:
    """A sentence where goals may be missing."""
    names = [name for name, attempt in record.phases.items() if attempt.seconds is None]
    if names:
        yield f"Phases that did not end well, or not yet: {', '.join(names)}."


def _order(finding: Finding) -> float:
    """Larger is nearer to the goal."""
    assert finding.value is not None
    return -finding.value if finding.is_cost else finding.value


def _cells(finding: Finding) -> list[str]:
    value = finding.note if finding.value is None else _number(finding.value)
    sign = "<=" if finding.is_cost else ">="
    goal = "" if finding.goal is None else f"{sign} {finding.goal:g}"
    met = {None: "", True: "yes", False: "no"}[finding.is_met]
    return [finding.what, finding.mode, value, finding.unit, goal, met]


def _of_table(found: Sequence[Finding], name: str) -> list[Finding]:
    return [finding for finding in found if finding.table == name and finding.detail]


def _wide(head: str, found: Sequence[Finding], told: _Told) -> str:
    """A line for each finding, a column for each name in any of their details."""
    names = list(dict.fromkeys(name for finding in found for name in finding.detail))
    rows = [
        [
            _title(finding),
            *(told(finding.detail[name]) if name in finding.detail else "" for name in names),
        ]
        for finding in found
    ]
    return table([head, *names], rows, len(names))


def _title(finding: Finding) -> str:
    return f"{finding.what} ({finding.mode})" if finding.mode else finding.what


def _number(value: float) -> str:
    return f"{value:.4g}"
