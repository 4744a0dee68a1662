"""The Grafana dashboard of the metrics: `python -m deployments.dashboard` prints its JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping

from deployments.panels import ROWS, Panel

__all__ = ["dashboard", "rendered"]

Json = Mapping[str, object]

WIDTH, HEIGHT = 8, 7
"""Of a panel; Grafana's rows are 24 wide."""


def dashboard() -> Json:
    """The dashboard as Grafana imports it; it asks for a data source and an application."""
    return {
        "uid": "dream-cluster",
        "title": "Dream",
        "tags": ["dream", "ray-serve"],
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source(), _application()]},
        "panels": list(_panels()),
    }


def rendered() -> str:
    """The file deployments/grafana/dream.json."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _panels() -> Iterator[Json]:
    at, number = 0, 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": at, "w": 24, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        at += 1
        for index, panel in enumerate(panels):
            number += 1
            yield _graph(panel, number, WIDTH * index % 24, at + HEIGHT * (WIDTH * index // 24))
        at += HEIGHT * -(-WIDTH * len(panels) // 24)


def _graph(panel: Panel, number: int, x: int, y: int) -> Json:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + index), "datasource": source, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _data_source() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _application() -> Json:
    query = "label_values(ray_dream_requests_running, application)"
    return {
        "name": "application",
        "label": "Application",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": "applications"},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    sys.stdout.write(rendered())
