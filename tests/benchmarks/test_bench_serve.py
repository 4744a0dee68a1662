"""The benchmark of the server: flags, what a client reads, its arithmetic, and a whole run."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from benchmarks import bench_serve
from benchmarks.serving import processes
from benchmarks.serving.alone import Alone, run_alone
from benchmarks.serving.client import Run, arrivals, body_of
from benchmarks.serving.null_engine import NullEngine, NullReplica
from benchmarks.serving.outcome import Answer, Outcome
from benchmarks.serving.report import STAGES, Row, medians, rows_table, stages_of, stages_table
from benchmarks.serving.settings import METRICS, Settings, parsed
from benchmarks.serving.summary import spread, summarize, table
from deployments.messages import CanvasRequest, CanvasUpdate, View
from deployments.replica import ReplicaConfig
from dream import (
    AsyncEngine,
    Completion,
    EngineConfig,
    Fixed,
    Hole,
    Request,
    SamplingParams,
    StepEvent,
    Template,
)
from dream.text import TextTemplate

GOOD = Outcome(
    e2el_s=0.5,
    ttfe_s=0.1,
    ttft_s=0.2,
    denoise_s=0.4,
    num_events=4,
    prompt_tokens=10,
    completion_tokens=8,
    token_forwards=72,
)
ROW = Row(
    engine="null",
    scenario="one",
    requests=3,
    p50_ms=1.0,
    p99_ms=2.0,
    requests_per_s=3.0,
    tokens_per_s=4000.0,
    events_per_s=0.0,
    proxy_ms=5.0,
    ingress_ms=6.0,
    replica_ms=7.0,
    cpu_us=9.0,
    alone_us=None,
    load_average=1.5,
)


def data(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n"


def read(lines: Sequence[tuple[float, bytes]], ended_s: float) -> Outcome:
    answer = Answer()
    for now_s, line in lines:
        answer.line(line, now_s)
    return answer.outcome(ended_s)


def test_flags_have_the_names_of_vllm_bench_serve():
    words = "--base-url http://h:1 --endpoint /v1/chat/completions --model m --num-prompts 5"
    words += " --request-rate 2.5 --max-concurrency 4 --random-input-len 7 --random-output-len 9"
    words += " --seed 3 --ignore-eos --steps 8 --no-stream --percentile-metrics ttft,e2el"
    words += " --metric-percentiles 50,99.9 --save-result --result-dir out"

    assert parsed(words.split(), "") == Settings(
        base_url="http://h:1",
        endpoint="/v1/chat/completions",
        model="m",
        num_prompts=5,
        request_rate=2.5,
        max_concurrency=4,
        input_len=7,
        output_len=9,
        seed=3,
        ignore_eos=True,
        steps=8,
        stream=False,
        metrics=("ttft", "e2el"),
        percentiles=(50.0, 99.9),
        save_result=True,
        result_dir="out",
    )
    assert parsed([], "") == Settings()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--percentile-metrics itl", "no itl: there are ttfe, ttft, tpot, e2el"),
        ("--metric-percentiles 101", "numbers from 0 to 100"),
        ("--request-rate 0", "a number > 0, or inf"),
        ("--num-prompts 0", "an integer >= 1"),
        ("--steps 99999999", "at most"),
        ("--engine-alone --endpoint /v1/chat/completions", "compares /v1/completions alone"),
    ],
)
def test_a_wrong_flag_says_what_is_allowed(words, told, capsys):
    with pytest.raises(SystemExit):
        parsed(words.split(), "")

    assert told in capsys.readouterr().err


def test_arrivals_are_all_at_once_or_a_poisson_process():
    assert arrivals(3, float("inf"), 0) == [0.0, 0.0, 0.0]

    times = arrivals(2000, 10.0, seed=1)

    assert times[0] == 0
    assert times == sorted(times)
    assert times == arrivals(2000, 10.0, seed=1)
    assert times[-1] == pytest.approx(200, rel=0.1)


def test_a_request_asks_for_what_the_settings_say():
    settings = Settings(ignore_eos=True, steps=4, view="steps", output_len=8, seed=2)

    body = body_of(settings, [1, 2], "", 3)

    assert body["prompt"] == [1, 2]
    assert body["seed"] == 5
    assert body["diffusion"] == {"steps": 4, "early_exit": False, "stream": "steps"}
    chat = body_of(Settings(endpoint="/v1/chat/completions", stream=False), [1], "hi", 0)
    assert chat["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt" not in chat
    assert "stream" not in chat["diffusion"]


def test_a_stream_of_steps_tells_events_text_and_usage():
    usage = {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "diffusion": {"token_forwards": 12},
    }
    step = {"event": "step"}

    found = read(
        [
            (0.05, b": queued\n"),
            (0.1, data(choices=[{"text": ""}], diffusion={"event": "canvas"})),
            (0.2, data(choices=[{"text": ""}], diffusion=step)),
            (0.3, data(choices=[{"text": ""}], diffusion=step)),
            (0.3, data(choices=[{"text": "x"}])),
            (0.5, data(choices=[{"delta": {"content": "y"}}])),
            (0.6, data(choices=[], usage=usage)),
            (0.6, b"data: [DONE]\n"),
        ],
        ended_s=0.6,
    )

    assert found == Outcome(
        e2el_s=0.6,
        ttfe_s=0.1,
        ttft_s=0.3,
        denoise_s=pytest.approx(0.4),
        num_events=2,
        prompt_tokens=2,
        completion_tokens=4,
        token_forwards=12,
    )
    assert found.tpot_s == pytest.approx(0.1)


def test_a_stream_that_breaks_off_or_tells_an_error_has_failed():
    text = data(choices=[{"text": "x"}])
    error = data(error={"code": "timeout"})

    assert read([(0.1, text)], 0.2).error == "the stream ended early"
    assert read([(0.1, text), (0.2, error)], 0.2).error == "timeout"


def test_a_whole_answer_has_the_denoise_time_of_its_header():
    answer = Answer()
    body = {"usage": {"prompt_tokens": 1, "completion_tokens": 4}}

    answer.body(json.dumps(body).encode(), "queue;dur=7.5, denoise;dur=20.0")
    found = answer.outcome(0.05)

    assert (found.error, found.ttfe_s, found.ttft_s) == (None, None, None)
    assert found.denoise_s == pytest.approx(0.02)
    assert found.tpot_s == pytest.approx(0.005)


def test_numbers_of_a_run_count_what_succeeded():
    bad = Outcome(error="status 503", e2el_s=9.0)
    run = Run(outcomes=[GOOD, GOOD, bad], seconds=2.0)

    found = summarize(run, Settings(), {"proxy": 1.0})

    assert (found.successful, found.failed, found.errors) == (2, 1, {"status 503": 1})
    assert (found.request_rate, found.output_rate) == (1.0, 8.0)
    assert (found.token_forward_rate, found.event_rate) == (72.0, 4.0)
    assert found.metrics["e2el"] == spread([0.5, 0.5], [99.0])
    assert found.metrics["tpot"] == spread([0.05, 0.05], [99.0])
    assert found.cpu_ms == {}


def test_processor_time_is_shared_out_among_requests_and_tokens():
    run = Run(outcomes=[GOOD, GOOD], seconds=2.0)
    alone = Alone(seconds=1.0, cpu_s=0.8, masks=16)

    found = summarize(run, Settings(output_len=8), {"proxy": 0.2, "replica": 1.4}, alone)

    assert found.cpu_ms == pytest.approx({"proxy": 100.0, "replica": 700.0})
    assert found.cpu_us_per_token == pytest.approx(100_000)
    assert found.alone_us_per_token == pytest.approx(50_000)


def test_spread_has_mean_median_and_percentiles_in_milliseconds():
    found = spread([0.001, 0.002, 0.006], [0.0, 100.0])

    assert found is not None
    assert (found.mean, found.median) == (pytest.approx(3), pytest.approx(2))
    assert found.percentiles == pytest.approx({"0": 1.0, "100": 6.0})
    assert spread([], [99.0]) is None


def test_the_table_says_what_stands_for_inter_token_latency():
    settings = Settings(max_concurrency=2, percentiles=(99.0,))
    text = table(summarize(Run(outcomes=[GOOD], seconds=2.0), settings, {"proxy": 0.25}), settings)

    lines = {line[:40].strip(): line[40:].strip() for line in text.splitlines()}
    assert lines["Successful requests:"] == "1"
    assert lines["Maximum request concurrency:"] == "2"
    assert lines["Output token throughput (tok/s):"] == "4.00"
    assert lines["P99 TTFE (ms):"] == "100.00"
    assert lines["Median TPOT (ms):"] == "50.00"
    assert lines["proxy (ms a request):"] == "250.00"
    assert "denoise time / completion tokens" in text
    assert all(title in text for title in METRICS.values())


def test_the_table_shows_the_metrics_that_were_asked_for():
    nothing = Outcome(e2el_s=1.0)
    found = summarize(Run(outcomes=[nothing], seconds=1.0), Settings(), {})

    text = table(found, Settings(metrics=("ttft",)))

    assert "not measured in this run" in text
    assert "E2EL" not in text
    assert "Processor" not in text


def test_processes_of_serve_are_known_by_their_titles():
    assert processes.role_of("ray::ServeReplica:dream:DreamReplica.handle_request") == "replica"
    assert processes.role_of("ray::ServeReplica:dream:Ingress") == "ingress"
    assert processes.role_of("ray::ProxyActor") == "proxy"
    assert processes.role_of("ray::ServeController") is None


def test_processor_time_grows_with_work_and_a_strange_port_has_no_serve():
    mine = {os.getpid(): "replica"}
    before = processes.cpu_s(mine)
    while processes.cpu_since(before, mine)["replica"] < 0.03:
        sum(range(10_000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert processes.processes_of(listener.getsockname()[1]) == {}


@pytest.fixture
def null() -> Iterator[AsyncEngine]:
    engine = AsyncEngine(NullEngine.from_pretrained("embedded", EngineConfig(threads=1)))
    yield engine
    engine.shutdown()


def test_the_null_engine_commits_every_mask_once_and_says_what_it_would_cost(null):
    template = Template([Fixed([5]), Hole(7), Fixed([6]), Hole(3)])
    request = Request(id="a", template=template, params=SamplingParams(steps=4))

    async def items() -> list[StepEvent | Completion]:
        return [item async for item in null.generate(request)]

    *events, done = asyncio.run(items())

    placed = [at for event in events if isinstance(event, StepEvent) for at in event.positions]
    assert placed == [*range(1, 8), *range(9, 12)]
    assert isinstance(done, Completion)
    assert (done.token_ids[0], done.token_ids[8], len(done.token_ids)) == (5, 6, 12)
    assert [len(span.token_ids) for span in done.spans] == [7, 3]
    assert (done.usage.steps, done.usage.token_forwards, done.usage.prompt_tokens) == (4, 48, 2)
    assert (null.num_requests, null.queued_token_forwards) == (0, 0)


def test_the_null_engine_runs_in_the_real_replica():
    config = ReplicaConfig(
        model="embedded", engine=EngineConfig(threads=1), max_token_forwards=1000
    )
    replica = NullReplica(config)
    message = CanvasRequest(
        id="a", template=TextTemplate(["ab", Hole(6)]), params=SamplingParams(steps=3)
    )

    async def updates() -> list[CanvasUpdate]:
        batches = [batch async for batch in replica.stream([message], View(mode="steps"))]
        return [update for batch in batches if isinstance(batch, list) for update in batch]

    found = asyncio.run(updates())
    replica.close()

    assert [len(update.set.set) for update in found if update.set is not None] == [2, 2, 2]
    assert found[-1].result is not None
    assert found[-1].result.holes[0].text == "xxxxxx"


def test_the_same_requests_run_without_http():
    settings = Settings(
        serve="null", num_prompts=3, output_len=5, steps=2, ignore_eos=True, num_warmups=1
    )

    found = run_alone(settings, [[1, 2], [3, 4], [5, 6]])

    assert found.masks == 15
    assert found.cpu_s > 0


def test_stages_are_the_times_between_neighbours():
    names = ["sent", *STAGES]
    times = {name: [0.01 * at, 1 + 0.03 * at] for at, name in enumerate(names)}

    found = stages_of(times, beside=8)

    assert [one.stage for one in found] == [*STAGES.values(), "all of them"]
    assert {round(one.p50_ms, 6) for one in found[:-1]} == {20.0}
    assert found[-1].p50_ms == pytest.approx(20 * len(STAGES))
    shown = stages_table([*found, *stages_of(times, beside=0)])
    assert shown.splitlines()[0].count("|") == 6


def test_a_recorded_row_is_the_median_of_its_repeats():
    rows = [replace(ROW, p50_ms=value) for value in (3.0, 1.0, 2.0)]

    middle = medians(rows)

    assert middle.p50_ms == 2.0
    assert middle.scenario == "one"
    assert "| null | one | 2.0 | 2.0 | 3.0 | 4,000 | 0.0 |" in rows_table([middle])
    assert "| - |" in rows_table([middle])


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_over_a_real_serve_prints_and_saves_its_numbers(tmp_path, capsys):
    words = "--serve null --num-prompts 4 --max-concurrency 2 --random-output-len 4 --view steps"
    words += " --engine-alone --save-result --result-filename x.json --result-dir"

    bench_serve.main([*words.split(), str(tmp_path)])

    told = json.loads((tmp_path / "x.json").read_text())["summary"]
    assert (told["successful"], told["completion_tokens"], told["events"]) == (4, 16, 16)
    assert set(told["cpu_ms"]) == {"proxy", "ingress", "replica"}
    assert "Engine without HTTP" in capsys.readouterr().out
