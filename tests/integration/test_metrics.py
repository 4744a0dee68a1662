"""The metrics of a running Serve, as Prometheus scrapes them from Ray."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.request import urlopen

import httpx
import pytest
import ray
from ray import serve

from deployments.app import AppArgs, build_app
from deployments.metrics import METRICS, SERVE_LABELS, Metric
from tests.deployments.test_key_file import created
from tests.integration.test_http import until

pytestmark = pytest.mark.ray

MARK = "Quokka"
"""In everything that callers write."""

OF_RAY = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId", "le"}
UNTOUCHED = {"dream_deadline_missed_total", "dream_step_budget_cut_total"}
"""Counters that only appear once they count, of requests with a deadline."""

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the requests of the fixture cost, by their own usage."""

    requests: int
    forward_passes: int
    token_forwards: int
    saved: int


def scraped() -> Samples:
    """The samples of the app with keys, by name: labels and value."""
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urlopen(url, timeout=10) as response:
        text = response.read().decode()
    found: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for line in text.splitlines():
        if match := re.fullmatch(r"(ray_dream_\w+)\{(.*)\} (\S+)", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            if labels.get("application") == "metrics":
                found[match[1]].append((labels, float(match[3])))
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for given, value in samples[f"ray_{name}"] if labels.items() <= given.items())


@pytest.fixture(scope="module")
def sent(server, tmp_path_factory) -> Iterator[Sent]:
    """An app with keys that has had one request of every kind."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    key = created(file, MARK).decode()
    args = AppArgs(model="embedded", keys=str(file))
    serve.run(build_app(args), name="metrics", route_prefix="/metrics-app")
    url = f"{server.url}/metrics-app"
    body = {"model": "embedded", "prompt": f"{MARK} said", "max_tokens": 12, "user": MARK}
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        usages = [
            http.post(f"{url}/v1/completions", json=body | {"seed": seed}).json()["usage"]
            for seed in range(3)
        ]
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        text = http.post(f"{url}/v1/completions", json=streamed).text
        assert "[DONE]" in text
        refused = http.post(f"{url}/v1/completions", json=body | {MARK: MARK})
        assert refused.status_code == 400
        denied = http.post(f"{url}/v1/completions", json=body, headers={"authorization": MARK})
        assert denied.status_code == 401
        long = body | {"max_tokens": 450, "stream": True, "diffusion": {"early_exit": False}}
        with http.stream("POST", f"{url}/v1/completions", json=long) as left:
            next(left.iter_bytes())
    done = [usage["diffusion"] for usage in usages]
    yield Sent(
        requests=3,
        forward_passes=sum(one["forward_passes"] for one in done),
        token_forwards=sum(one["token_forwards"] for one in done),
        saved=sum(one["steps"] - one["forward_passes"] for one in done),
    )
    serve.delete("metrics")


@pytest.fixture(scope="module")
def samples(sent) -> Samples:
    """A scrape after all of it has arrived: Ray sends what a process counted every 10 s."""

    deadline = time.monotonic() + 60
    while True:
        found = scraped()
        late = missing(found) - UNTOUCHED
        if total(found, "dream_requests_total") >= 7 and not late:
            return found
        assert time.monotonic() < deadline, f"no {late}, of {found['ray_dream_requests_total']}"
        time.sleep(0.5)


def missing(samples: Samples) -> set[str]:
    return {metric.name for metric in METRICS.values() if not all(map(samples.get, metric.scraped))}


def test_every_metric_is_there(samples):
    assert missing(samples) <= UNTOUCHED


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_has_its_labels_and_comes_from_its_deployment(samples, metric: Metric):
    for name in metric.scraped:
        for labels, _ in samples[name]:
            ours = {label for label in labels if not label.startswith("otel_")} - OF_RAY
            assert ours == {*metric.labels, *SERVE_LABELS}
            assert labels["deployment"] == metric.source


def test_nothing_that_a_caller_wrote_is_in_it(samples):
    assert MARK not in str(samples)


def test_sums_are_those_of_the_usages(samples, sent):
    """The stream that was read and the one that was left come on top."""
    where = {"endpoint": "/v1/completions"}
    assert total(samples, "dream_requests_total", outcome="ok", **where) == sent.requests + 1
    assert total(samples, "dream_requests_total", outcome="refused", **where) == 1
    assert total(samples, "dream_requests_total", outcome="disconnected", **where) == 1
    assert total(samples, "dream_rejections_total", reason="unknown_parameter") == 1
    assert total(samples, "dream_auth_failures_total") == 1
    assert total(samples, "dream_client_disconnects_total") == 1
    assert total(samples, "dream_steps_used_count", **where) == sent.requests + 1
    assert total(samples, "dream_time_to_first_text_seconds_count") >= 1
    assert total(samples, "dream_denoising_steps_total") > sent.forward_passes
    assert total(samples, "dream_token_forwards_total") > sent.token_forwards
    assert total(samples, "dream_early_exit_steps_saved_total") >= sent.saved
    steps = total(samples, "dream_step_seconds_count")
    assert steps == total(samples, "dream_forward_passes_total")


def test_nothing_is_left_of_requests_that_are_over(samples):
    def is_idle() -> bool:
        found = scraped()
        names = ("requests_running", "requests_waiting", "token_forwards_queued", "canvas_leaks")
        return all(total(found, f"dream_{name}") == 0 for name in names)

    until(is_idle, 60)
