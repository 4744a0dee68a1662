"""The picture of quality against speed: warm, in turns, medians."""

from __future__ import annotations

import itertools

import pytest

from benchmarks import quality_speed
from benchmarks.quality_speed import SETTINGS, STEPS, measure, measure_lines
from dream import Engine
from jobs.evaluate.suites import SuiteOptions, build_suite


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_pretrained("embedded")


def test_rounds_are_timed_after_a_warm_up_and_no_line_is_always_first(engine, monkeypatch):
    calls: list[tuple[int | None, str]] = []
    ticks = itertools.accumulate(itertools.count(1))

    def noted(*args, **kwargs):
        calls.append((kwargs["steps"], kwargs["setting"]))
        return measure(*args, **kwargs)

    monkeypatch.setattr(quality_speed, "measure", noted)
    suite = build_suite("infill-eq", SuiteOptions(num=2))

    found = list(measure_lines(engine, suite, rounds=3, clock=lambda: float(next(ticks))))

    warm_up = [(steps, name) for steps in STEPS[:2] for name in SETTINGS]
    assert calls[: len(warm_up)] == warm_up
    timed = calls[len(warm_up) :]
    firsts = [name for steps, name in timed[:: len(SETTINGS)] if steps == 1]
    assert len(set(firsts)) == 3
    assert [(one.steps, one.setting) for one in found] == [(s, n) for n in SETTINGS for s in STEPS]
    for one in found:
        assert len(one.seconds_of_rounds) == 3
        assert one.seconds == sorted(one.seconds_of_rounds)[1]
        assert min(one.seconds_of_rounds) > 2 * len(warm_up), "the warm-up is not timed"
        assert one.tokens_per_s == one.tokens / one.seconds
