"""The committed Grafana dashboard: made from its panels, over metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import deployments
from deployments.dashboard import rendered
from deployments.metrics import METRICS, SERVE_LABELS
from deployments.panels import ROWS

FILE = Path(deployments.__file__).parent / "grafana/dream.json"
DASHBOARD = json.loads(rendered())
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "timeseries"]
QUERIES = [target["expr"] for graph in GRAPHS for target in graph["targets"]]
SCRAPED = {name: metric for metric in METRICS.values() for name in metric.scraped}


def test_the_committed_file_is_the_one_that_is_printed():
    assert FILE.read_text(encoding="utf-8") == rendered()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(query):
    names = re.findall(r"\bray_\w+", query)
    labels = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query))))

    assert names
    assert set(names) <= set(SCRAPED)
    for name in names:
        metric = SCRAPED[name]
        of_histogram = {"le"} if name.endswith("_bucket") else set()
        assert labels <= {*metric.labels, *SERVE_LABELS} | of_histogram
        assert ("rate(" in query) or metric.kind == "gauge"


def test_every_metric_is_in_a_graph():
    shown = {SCRAPED[name].name for query in QUERIES for name in re.findall(r"\bray_\w+", query)}

    assert shown == set(METRICS)


def test_a_legend_names_labels_of_its_query():
    for graph in GRAPHS:
        for target in graph["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target


def test_rows_stand_below_each_other_and_graphs_beside():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert list(ROWS) == [p["title"] for p in DASHBOARD["panels"] if p["type"] == "row"]


def test_parentheses_of_queries_are_closed():
    for query in QUERIES:
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
