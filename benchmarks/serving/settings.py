"""Flags of `benchmarks.bench_serve`, named as those of `vllm bench serve`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dream.params import MAX_STEPS

__all__ = ["ENDPOINTS", "METRICS", "Settings", "parsed"]

ENDPOINTS = ("/v1/completions", "/v1/chat/completions")
METRICS = {
    "ttfe": "Time to First Event",
    "ttft": "Time to First Text",
    "tpot": "Time per Output Token (denoise time / completion tokens)",
    "e2el": "End-to-end Latency",
}
"""Names of `--percentile-metrics`. Inter-token latency has no meaning for diffusion."""

ServedEngine = Literal["null", "embedded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run. request_rate: requests a second at Poisson times, inf sends all at once.

    steps: None leaves one step for each masked token. serve: which engine a Serve of its own has.
    """

    base_url: str = "http://127.0.0.1:8000"
    endpoint: str = ENDPOINTS[0]
    model: str = "embedded"
    num_prompts: int = 100
    request_rate: float = float("inf")
    max_concurrency: int | None = None
    input_len: int = 32
    output_len: int = 32
    seed: int = 0
    ignore_eos: bool = False
    steps: int | None = None
    stream: bool = True
    view: str = "text"
    num_warmups: int = 3
    timeout_s: float = 600.0
    metrics: tuple[str, ...] = tuple(METRICS)
    percentiles: tuple[float, ...] = (99.0,)
    serve: ServedEngine | None = None
    engine_alone: bool = False
    save_result: bool = False
    result_dir: str = "."
    result_filename: str | None = None
    record: str | None = None
    repeats: int = 3


DEFAULTS = Settings()


def parsed(words: Sequence[str] | None, about: str) -> Settings:
    """The settings of a command line; it ends here when they are wrong."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    _add_requests(parser)
    _add_results(parser)
    values = vars(parser.parse_args(words))
    settings = Settings(**values)
    if settings.engine_alone and settings.endpoint != ENDPOINTS[0]:
        parser.error(f"--engine-alone compares {ENDPOINTS[0]} alone")
    return settings


def _add_requests(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base-url", default=DEFAULTS.base_url)
    add("--endpoint", choices=ENDPOINTS, default=ENDPOINTS[0])
    add("--model", default=DEFAULTS.model)
    add("--num-prompts", type=_count, default=DEFAULTS.num_prompts)
    add("--request-rate", type=_rate, default=DEFAULTS.request_rate, help="a second, or inf")
    add("--max-concurrency", type=_count, help="most requests at a time")
    add("--random-input-len", dest="input_len", type=_count, default=DEFAULTS.input_len)
    add("--random-output-len", dest="output_len", type=_count, default=DEFAULTS.output_len)
    add("--seed", type=int, default=DEFAULTS.seed)
    add("--ignore-eos", action="store_true", help="fill the whole canvas: early_exit is false")
    add("--steps", type=_steps, help="denoising steps; by default one for each masked token")
    add("--stream", action=argparse.BooleanOptionalAction, default=True)
    views = ("text", "steps", "snapshots")
    add("--view", choices=views, default="text", help="what a stream shows")
    add("--num-warmups", type=int, default=DEFAULTS.num_warmups)
    add("--timeout-s", type=float, default=DEFAULTS.timeout_s, help="of one request")


def _add_results(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    known = ",".join(METRICS)
    add("--percentile-metrics", dest="metrics", type=_metrics, default=tuple(METRICS), help=known)
    add("--metric-percentiles", dest="percentiles", type=_percentiles, default=(99.0,))
    add("--serve", choices=("null", "embedded"), help="start a Serve of its own with this engine")
    add("--engine-alone", action="store_true", help="also without HTTP, in this process")
    add("--save-result", action="store_true", help="write the numbers as JSON")
    add("--result-dir", default=DEFAULTS.result_dir)
    add("--result-filename", help="by default serve_DATE.json")
    add("--record", metavar="NAME", help="run and write the recorded scenarios instead")
    add("--repeats", type=_count, default=DEFAULTS.repeats, help="of each recorded scenario")


def _count(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError("an integer >= 1")
    return number


def _steps(word: str) -> int:
    if (number := _count(word)) > MAX_STEPS:
        raise argparse.ArgumentTypeError(f"at most {MAX_STEPS}")
    return number


def _rate(word: str) -> float:
    if not (rate := float(word)) > 0:
        raise argparse.ArgumentTypeError("a number > 0, or inf")
    return rate


def _metrics(words: str) -> tuple[str, ...]:
    chosen = tuple(words.split(","))
    if unknown := set(chosen) - set(METRICS):
        allowed = ", ".join(METRICS)
        raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}: there are {allowed}")
    return chosen


def _percentiles(words: str) -> tuple[float, ...]:
    chosen = tuple(float(word) for word in words.split(","))
    if not all(0 <= one <= 100 for one in chosen):
        raise argparse.ArgumentTypeError("numbers from 0 to 100")
    return chosen
