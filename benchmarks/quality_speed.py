"""Quality against speed, by the number of denoising steps: the figure of the Dream blog.

For a checkpoint and a suite, every algorithm and order fills the same held-out questions at each
number of steps, all of them in one batch of `Engine`; a point is the share of right answers over
answer tokens per second, on one machine in one run.

`python -m benchmarks.quality_speed --record embedded` also writes the figure to docs/figures and
its numbers to benchmarks/results, both as quality_speed_embedded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.hardware import describe
from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
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
    seconds: float

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
) -> Outcome:
    """Answer all questions of a suite at once, and score them by its first metric."""
    params = {"steps": steps, "alg": alg, "order": order, "temperature": temperature}
    requests = [
        Request(
            id=str(number),
            template=template_of(engine, question),
            params=SamplingParams(**params, seed=question_seed(0, suite.name, number)),
        )
        for number, question in enumerate(suite.questions)
    ]
    started = time.perf_counter()
    done = engine.generate(requests)
    seconds = time.perf_counter() - started
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
        seconds=round(seconds, 3),
    )


def template_of(engine: Engine, question: Question) -> Template:
    """A question as it is put to an engine."""
    assert engine.tokenizer is not None
    encode = engine.tokenizer.encode
    pieces = [piece for piece in question.pieces if piece != ""]
    return Template([Hole(p) if isinstance(p, int) else Fixed(encode(p)) for p in pieces])


def is_right(
    engine: Engine, suite: Suite, question: Question, spans: Sequence[Sequence[int]]
) -> bool:
    """Whether the filled holes, each up to its end, are right by the suite's first metric."""
    assert engine.tokenizer is not None
    texts = [engine.tokenizer.decode(span) for span in spans]
    metric = next(iter(suite.metrics.values()))
    return bool(metric(question.problem.input, suite.read_answer(question, texts)))


def picture(outcomes: Sequence[Outcome], model: str) -> Picture:
    """A panel for each suite, a line for each setting; the first line says its steps."""
    panels = []
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        lines = []
        for name in SETTINGS:
            of_line = [o for o in outcomes if (o.suite, o.setting) == (suite, name)]
            lines.append(Line(label=name, points=[_point(o, bool(lines)) for o in of_line]))
        panels.append(Panel(title=suite, lines=lines))
    title = f"{model}: quality against speed, n = {outcomes[0].n:,}"
    y_label = "share right, Wilson 95 % interval"
    return draw(panels, title=title, x_label="answer tokens per second", y_label=y_label)


def main() -> None:
    """Measure, print a table, and with --record write the figure and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--suite", nargs="+", default=["countdown3-mini", "sudoku4"])
    parser.add_argument("--givens", type=int, default=4)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--record", metavar="NAME", help="write the figure and its numbers")
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model, EngineConfig(device=args.device, dtype=args.dtype))
    outcomes: list[Outcome] = []
    print("| suite | line | steps | right | 95 % interval | passes | token-forwards | tokens/s |")
    print("|---|---|--:|--:|---|--:|--:|--:|")
    for name in args.suite:
        givens = (args.givens,) if name.startswith("sudoku") else None
        suite = build_suite(name, SuiteOptions(num=args.n, givens=givens))
        measure(engine, suite, steps=1)  # a warm-up, which no point counts
        for setting, (alg, order) in SETTINGS.items():
            for steps in STEPS:
                outcome = measure(engine, suite, steps=steps, alg=alg, order=order, setting=setting)
                outcomes.append(outcome)
                print(_row(outcome), flush=True)
    if args.record:
        _record(args.record, outcomes, args.model, _command(args))


def _point(outcome: Outcome, is_noted: bool) -> Point:
    note = "full" if outcome.steps is None else f"{outcome.steps}"
    return Point(
        outcome.tokens_per_s,
        outcome.right,
        outcome.wilson_low,
        outcome.wilson_high,
        "" if is_noted else note,
    )


def _row(outcome: Outcome) -> str:
    cells = [outcome.suite, outcome.setting, outcome.steps or "full", f"{outcome.right:.3f}"]
    cells += [f"{outcome.wilson_low:.3f} to {outcome.wilson_high:.3f}"]
    cells += [f"{outcome.forward_passes:.1f}", f"{outcome.token_forwards:.0f}"]
    return "| " + " | ".join(map(str, [*cells, f"{outcome.tokens_per_s:,.0f}"])) + " |"


def _record(name: str, outcomes: Sequence[Outcome], model: str, command: str) -> None:
    root = Path(__file__).parent.parent
    figures = root / "docs" / "figures"
    figures.mkdir(exist_ok=True)
    drawn = picture(outcomes, model)
    (figures / f"quality_speed_{name}.svg").write_bytes(drawn.svg)
    (figures / f"quality_speed_{name}.png").write_bytes(drawn.png)
    about = describe(command) | {"weights_sha256": weights_sha256(resolve(model))}
    rows = [asdict(o) | {"tokens_per_s": round(o.tokens_per_s, 1)} for o in outcomes]
    path = root / "benchmarks" / "results" / f"quality_speed_{name}.json"
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _command(args: argparse.Namespace) -> str:
    words = ["python -m benchmarks.quality_speed", f"--model {args.model}", f"-n {args.n}"]
    words += [f"--suite {' '.join(args.suite)}", f"--givens {args.givens}"]
    return " ".join([*words, f"--device {args.device} --dtype {args.dtype} --record {args.record}"])


if __name__ == "__main__":
    main()
