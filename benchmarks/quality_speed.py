"""Quality against speed, by the number of denoising steps: the figure of the Dream blog.

For a checkpoint and a suite, every algorithm and order fills the same held-out questions at each
number of steps, all of them in one batch of `Engine`; a point is the share of right answers over
answer tokens per second, on one machine in one run. The first calls warm up and are not timed.
Every round then takes one point of each line in turn, so that all lines meet the machine in the
same state; the seconds of a point are the median of its rounds. On a CPU they are processor seconds
of one thread, which other programs hardly change.

`python -m benchmarks.quality_speed --record embedded` also writes the figure to docs/figures and
its numbers to benchmarks/results, both as quality_speed_embedded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.hardware import describe
from benchmarks.markdown import table
from dream import Engine, EngineConfig, Request, SamplingParams, Template
from dream.model.loader import resolve, weights_sha256
from dream.params import Alg, Order
from jobs.evaluate.plots import Line, Panel, Picture, Point, draw
from jobs.evaluate.questions import question_seed
from jobs.evaluate.stats import wilson
from jobs.evaluate.suite import Question, Suite
from jobs.evaluate.suites import SuiteOptions, build_suite

SETTINGS: dict[str, tuple[Alg, Order]] = {
    "entropy": ("entropy", "confidence"),
    "maskgit_plus": ("maskgit_plus", "confidence"),
    "topk_margin": ("topk_margin", "confidence"),
    "origin": ("origin", "confidence"),
    "left to right": ("entropy", "left_to_right"),
}
"""Lines of the figure: an algorithm, which for `origin` is a random order, and an order."""

ROOT = Path(__file__).parent.parent
STEPS = (1, 2, 4, 8, None)
"""None is one step for each masked token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a suite was answered at one setting, and what it cost on the machine at hand."""

    suite: str
    setting: str
    steps: int | None
    n: int
    right: float
    wilson_low: float
    wilson_high: float
    forward_passes: float
    token_forwards: float
    tokens: int
    seconds_of_rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.seconds_of_rounds)

    @property
    def tokens_per_s(self) -> float:
        """Answer tokens, up to the end of each answer, for every second of `Engine`."""
        return self.tokens / self.seconds


def measure(
    engine: Engine,
    suite: Suite,
    *,
    steps: int | None,
    alg: Alg = "entropy",
    order: Order = "confidence",
    temperature: float = 0.0,
    setting: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome:
    """Answer all questions of a suite at once, and score them by its first metric."""
    params = SamplingParams(steps=steps, alg=alg, order=order, temperature=temperature)
    requests = [
        Request(
            id=str(number),
            template=template_of(engine, question),
            params=replace(params, seed=question_seed(0, suite.name, number)),
        )
        for number, question in enumerate(suite.questions)
    ]
    started = clock()
    done = engine.generate(requests)
    seconds = clock() - started
    n = len(done)
    right = sum(
        is_right(engine, suite, question, [span.token_ids for span in completion.spans])
        for question, completion in zip(suite.questions, done, strict=True)
    )
    interval = wilson(right, n)
    return Outcome(
        suite=suite.name,
        setting=setting or f"{alg}, {order}",
        steps=steps,
        n=n,
        right=right / n,
        wilson_low=round(interval.low, 4),
        wilson_high=round(interval.high, 4),
        forward_passes=sum(c.usage.forward_passes for c in done) / n,
        token_forwards=sum(c.usage.token_forwards for c in done) / n,
        tokens=sum(c.usage.completion_tokens for c in done),
        seconds_of_rounds=(round(seconds, 4),),
    )


def measure_lines(
    engine: Engine, suite: Suite, *, rounds: int, clock: Callable[[], float]
) -> Iterator[Outcome]:
    """Every point of every line, after each line's two shortest runs without timing.

    Each round begins with another line, so that no line is always the first one.
    """
    found: dict[tuple[int | None, str], list[Outcome]] = {}
    names = list(SETTINGS)
    for number in range(rounds + 1):
        for steps in STEPS if number else STEPS[:2]:
            for name in names:
                alg, order = SETTINGS[name]
                one = measure(
                    engine, suite, steps=steps, alg=alg, order=order, setting=name, clock=clock
                )
                if number:
                    found.setdefault((steps, name), []).append(one)
        names = [*names[1:], names[0]]
    for name in SETTINGS:
        for steps in STEPS:
            same = found[steps, name]
            yield replace(same[0], seconds_of_rounds=tuple(one.seconds for one in same))


def template_of(engine: Engine, question: Question) -> Template:
    """A question as it is put to an engine."""
    assert engine.tokenizer is not None
    return question.text.encode(engine.tokenizer.encode)


def is_right(
    engine: Engine, suite: Suite, question: Question, spans: Sequence[Sequence[int]]
) -> bool:
    """Whether the filled holes, each up to its end, are right by the suite's first metric."""
    assert engine.tokenizer is not None
    texts = [engine.tokenizer.decode(span) for span in spans]
    metric = next(iter(suite.metrics.values()))
    return bool(metric(question.problem.input, suite.read_answer(question, texts)))


def picture(outcomes: Sequence[Outcome], model: str, x_label: str) -> Picture:
    """A panel for each suite, a line for each setting; the first line says its steps."""
    panels = []
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        lines: list[Line] = []
        for name in SETTINGS:
            of_line = [o for o in outcomes if (o.suite, o.setting) == (suite, name)]
            lines.append(Line(label=name, points=[_point(o, bool(lines)) for o in of_line]))
        panels.append(Panel(title=suite, lines=lines))
    title = f"{model}: quality against speed, n = {outcomes[0].n:,}"
    y_label = "share right, Wilson 95 % interval"
    return draw(panels, title=title, x_label=x_label, y_label=y_label, x_base=10)


def main() -> None:
    """Measure, print a table, and with --record write the figure and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--suite", nargs="+", default=["countdown3-mini", "sudoku4"])
    parser.add_argument("--givens", type=int, default=4)
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each point")
    parser.add_argument("--record", metavar="NAME", help="write the figure and its numbers")
    args = parser.parse_args()
    config = EngineConfig(device=args.device, dtype=args.dtype, threads=1)
    engine = Engine.from_pretrained(args.model, config)
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    outcomes: list[Outcome] = []
    for name in args.suite:
        givens = (args.givens,) if name.startswith("sudoku") else None
        suite = build_suite(name, SuiteOptions(num=args.n, givens=givens))
        for outcome in measure_lines(engine, suite, rounds=args.rounds, clock=clock):
            outcomes.append(outcome)
            print(*_cells(outcome), sep=" | ", flush=True)
    print(f"\n{lines_table(outcomes)}")
    if args.record:
        x_label = "answer tokens per second" + (" of one core" if args.device == "cpu" else "")
        drawn = picture(outcomes, args.model, x_label)
        about = describe(_command(args), args.device)
        about |= {"weights_sha256": weights_sha256(resolve(args.model))}
        _record(args.record, outcomes, drawn, about)


def _point(outcome: Outcome, is_noted: bool) -> Point:
    note = "full" if outcome.steps is None else f"{outcome.steps}"
    return Point(
        outcome.tokens_per_s,
        outcome.right,
        outcome.wilson_low,
        outcome.wilson_high,
        "" if is_noted else note,
    )


def lines_table(outcomes: Sequence[Outcome]) -> str:
    """Every point as a row."""
    heads = ["suite", "line", "95 % interval", "steps", "right", "passes", "token-forwards"]
    return table([*heads, "tokens/s"], [_cells(outcome) for outcome in outcomes], 5)


def _cells(outcome: Outcome) -> list[str]:
    cells = [outcome.suite, outcome.setting]
    cells += [f"{outcome.wilson_low:.3f} to {outcome.wilson_high:.3f}"]
    cells += ["full" if outcome.steps is None else f"{outcome.steps}", f"{outcome.right:.3f}"]
    cells += [f"{outcome.forward_passes:.1f}", f"{outcome.token_forwards:.0f}"]
    return [*cells, f"{outcome.tokens_per_s:,.0f}"]


def _record(name: str, outcomes: Sequence[Outcome], drawn: Picture, about: dict[str, str]) -> None:
    figure = ROOT / "docs/figures" / f"quality_speed_{name}"
    figure.parent.mkdir(exist_ok=True)
    figure.with_suffix(".svg").write_bytes(drawn.svg)
    figure.with_suffix(".png").write_bytes(drawn.png)
    derived = ("seconds", "tokens_per_s")
    rows = [asdict(o) | {name: round(getattr(o, name), 4) for name in derived} for o in outcomes]
    stem = ROOT / "benchmarks/results" / f"quality_speed_{name}"
    text = json.dumps({"about": about, "rows": rows}, indent=1)
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    text = f"# Quality against speed\n\n{facts}\n\n{lines_table(outcomes)}\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")


def _command(args: argparse.Namespace) -> str:
    words = ["python -m benchmarks.quality_speed", f"--model {args.model}", f"-n {args.n}"]
    words += [f"--rounds {args.rounds}"]
    words += [f"--suite {' '.join(args.suite)}", f"--givens {args.givens}"]
    return " ".join([*words, f"--device {args.device} --dtype {args.dtype} --record {args.record}"])


if __name__ == "__main__":
    main()
