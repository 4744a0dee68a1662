"""What requests and engines add to the metrics, without Serve: the sums are in plain numbers."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.testclient import TestClient

from deployments.access_log import RequestRecord
from deployments.endpoints import Endpoints
from deployments.engine_metrics import CanvasTally, EngineMetrics
from deployments.errors import ApiError
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.metric_sinks import PlainSink, ServeSink, sink_here
from deployments.metrics import METRICS, SERVE_LABELS, tokens_bucket
from deployments.request_metrics import count_request, outcome_of
from dream import AsyncEngine, Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.engine.step_times import TOKENS
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_api import COMPLETION, CONFIG
from tests.deployments.test_gate import bearer, created

LABELS = {"endpoint", "outcome", "tokens_bucket", "reason", "phase", "kind"}
ROUTE = "/v1/completions"


@pytest.fixture
def sink() -> PlainSink:
    return PlainSink()


def calling(
    sink: PlainSink, replicas: FakeReplicas | None = None, config: GateConfig | None = None
) -> TestClient:
    endpoints = Endpoints(replicas or FakeReplicas(), CONFIG)
    api = build_api(endpoints, config or GateConfig(), metrics=sink)
    return TestClient(api, URL, raise_server_exceptions=False)


def test_names_and_labels_are_those_of_prometheus_and_no_more():
    for name, metric in METRICS.items():
        assert name.startswith("dream_")
        assert name.endswith("_total") == (metric.kind == "counter")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert set(metric.labels) <= LABELS
        assert not set(metric.labels) & set(SERVE_LABELS)


def test_outside_of_serve_metrics_are_plain_numbers():
    assert isinstance(sink_here(), PlainSink)


def test_a_sink_takes_declared_metrics_with_all_their_labels(sink):
    with pytest.raises(AssertionError, match="dream_requests_total"):
        sink.add("dream_requests_total", 1, endpoint="x")
    with pytest.raises(AssertionError, match="dream_canvas_leaks"):
        sink.add("dream_canvas_leaks", 1)
    with pytest.raises(KeyError):
        sink.set("dream_nothing", 1)


def test_an_answer_is_counted_with_its_steps(sink):
    with calling(sink) as client:
        usage = client.post(ROUTE, json=COMPLETION).json()["usage"]

    done = usage["diffusion"]
    assert sink.values[("dream_requests_total", ROUTE, "ok")] == 1
    assert sink.values[("dream_request_seconds_count", ROUTE, "ok")] == 1
    assert sink.values[("dream_steps_used_sum", ROUTE)] == done["forward_passes"]
    saved = sink.values[("dream_early_exit_steps_saved_total",)]
    assert saved == done["steps"] - done["forward_passes"]
    assert sink.values[("dream_queue_seconds_count", ROUTE)] == 1
    assert sink.values[("dream_time_per_output_token_seconds_count", ROUTE)] == 1


def test_a_stream_is_counted_with_the_time_to_its_first_text(sink):
    with calling(sink) as client:
        client.post(ROUTE, json=COMPLETION | {"stream": True})

    assert sink.values[("dream_requests_total", ROUTE, "ok")] == 1
    assert sink.values[("dream_time_to_first_text_seconds_count", ROUTE)] == 1


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("trouble", "outcome", "reason"),
    [
        (RuntimeError("MARK"), "error", None),
        (ApiError("timeout", "MARK"), "timeout", None),
        (ApiError("overloaded", "MARK"), "refused", "overloaded"),
    ],
)
def test_what_goes_wrong_has_an_outcome_and_a_refusal_a_reason(
    sink, trouble, outcome, reason, is_stream
):
    with calling(sink, FakeReplicas(trouble)) as client:
        client.post(ROUTE, json=COMPLETION | {"stream": is_stream})

    assert sink.values[("dream_requests_total", ROUTE, outcome)] == 1
    rejected = {key[1] for key in sink.values if key[0] == "dream_rejections_total"}
    assert rejected == ({reason} if reason else set())


def test_a_stream_that_fails_after_its_status_is_no_success(sink):
    replicas = FakeReplicas()
    replicas.trouble_in_stream = RuntimeError("MARK")
    with calling(sink, replicas) as client:
        assert client.post(ROUTE, json=COMPLETION | {"stream": True}).status_code == 200

    assert sink.values[("dream_requests_total", ROUTE, "error")] == 1


def test_no_label_has_what_a_caller_wrote(sink, tmp_path):
    file = tmp_path / "keys.json"
    secret = created(file, "MARKalice")
    with calling(sink, config=GateConfig(keys=str(file))) as client:
        client.post(ROUTE, json=COMPLETION, headers=bearer("MARK"))
        client.headers.update(bearer(secret))
        client.post(ROUTE, json=COMPLETION | {"prompt": "MARK", "user": "MARK", "stop": ["MARK"]})
        client.post("/v1/MARK", json={})
        client.get("/v1/models/MARK")
        client.post(ROUTE, json={"MARK": 1})

    assert sink.values[("dream_auth_failures_total",)] == 1
    assert sink.values[("dream_rejections_total", "not_found")] == 1
    assert sink.values[("dream_requests_total", "none", "refused")] == 2
    assert not [key for key in sink.values if "MARK" in " ".join(key)]


@pytest.mark.parametrize(("first_text_ms", "phase"), [(None, "waiting"), (5.0, "streaming")])
def test_a_caller_that_hangs_up_is_counted_by_how_far_it_had_come(sink, first_text_ms, phase):
    record = RequestRecord(id="a", method="POST", status=200, has_disconnected=True)
    record.first_text_ms = first_text_ms

    count_request(sink, record)

    assert outcome_of(record) == "disconnected"
    assert sink.values[("dream_client_disconnects_total", phase)] == 1


def test_a_missed_deadline_and_a_cut_budget_are_counted(sink):
    record = RequestRecord(id="a", method="POST", status=200, route=ROUTE)
    record.deadline_met, record.cut_by = False, "deadline"

    count_request(sink, record)

    assert sink.values[("dream_deadline_missed_total",)] == 1
    assert sink.values[("dream_step_budget_cut_total", "deadline")] == 1


@pytest.fixture
def engine():
    engine = AsyncEngine(Engine.from_pretrained("embedded", EngineConfig(threads=1)))
    yield engine
    engine.shutdown()


def exporter(engine: AsyncEngine, tally: CanvasTally, sink: PlainSink) -> EngineMetrics:
    return EngineMetrics(engine, tally, sink, device="cpu", max_num_batched_tokens=1000, load_s=2.5)


def filled(engine: AsyncEngine, id: str) -> None:
    params = SamplingParams(steps=4, early_exit=False)
    request = Request(id=id, template=Template([Fixed([1] * 12), Hole(8)]), params=params)

    async def run() -> None:
        async for _ in engine.generate(request):
            pass

    asyncio.run(run())


def test_an_engines_numbers_are_exported_once(engine, sink):
    metrics = exporter(engine, CanvasTally(), sink)

    for name in ("a", "b"):
        filled(engine, name)
        metrics.export()
        metrics.export()

    assert sink.values[("dream_forward_passes_total",)] == 8
    assert sink.values[("dream_denoising_steps_total",)] == 8
    assert sink.values[("dream_token_forwards_total",)] == 8 * 20
    assert sink.values[("dream_canvas_positions_total",)] == 8 * 8
    assert sink.values[("dream_committed_tokens_total",)] == 16
    assert sink.values[("dream_step_seconds_count", "64")] == 8
    assert sink.values[("dream_busy_seconds_total",)] == engine.step_times.busy_s
    assert sink.values[("dream_canvas_occupancy_ratio",)] == 20 / 1000
    assert 0 < sink.values[("dream_masked_fraction",)] <= 8 / 20
    assert sink.values[("dream_load_seconds",)] == 2.5
    assert sink.values[("dream_device_memory_bytes", "resident")] > 2**20


def test_canvases_wait_and_run_as_their_callers_see_it(engine, sink):
    tally = CanvasTally()
    metrics = exporter(engine, tally, sink)

    with tally.canvas() as one, tally.canvas():
        one.step()
        one.step()
        metrics.export()
    running, waiting = (sink.values[(f"dream_requests_{name}",)] for name in ("running", "waiting"))
    metrics.export()

    assert (running, waiting) == (1, 1)
    assert sink.values[("dream_requests_running",)] == 0
    assert sink.values[("dream_requests_waiting",)] == 0


def test_a_canvas_that_nobody_waits_for_is_a_leak_at_the_second_look(engine, sink, monkeypatch):
    metrics = exporter(engine, CanvasTally(), sink)
    monkeypatch.setattr(type(engine), "num_requests", 1)

    metrics.export()
    first = sink.values[("dream_canvas_leaks",)]
    metrics.export()

    assert (first, sink.values[("dream_canvas_leaks",)]) == (0, 1)


def test_the_thread_exports_until_it_is_closed(engine, sink):
    has_exported = threading.Event()
    sink.set = lambda *_, **__: has_exported.set()  # type: ignore[method-assign]
    metrics = exporter(engine, CanvasTally(), sink)

    metrics.start()
    assert has_exported.wait(30)
    metrics.close()

    assert "dream-metrics" not in {thread.name for thread in threading.enumerate()}


def test_each_bucket_of_tokens_has_a_label_of_its_own():
    assert len({tokens_bucket(index) for index in range(len(TOKENS) + 1)}) == len(TOKENS) + 1
    assert ServeSink().add("dream_canvas_leaks", 0) is None
