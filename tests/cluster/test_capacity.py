"""Tests of `cluster.capacity`: laws between rates, times and replicas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.capacity import Answers, StepTime, min_steps_load, replicas_for, requests_per_s

STEPS = st.builds(
    StepTime,
    floor_s=st.floats(0.001, 0.02),
    base_s=st.floats(0, 0.01),
    token_s=st.floats(1e-6, 1e-3),
)
ANSWERS = st.builds(Answers, canvas_tokens=st.integers(1, 4096), steps=st.integers(1, 1024))
BATCHES = st.integers(1, 64)
LAW = settings(max_examples=50, derandomize=True, deadline=None)


@given(ANSWERS, STEPS, BATCHES, st.integers(1, 8))
@LAW
def test_canvases_in_flight_are_rate_times_time(answers, step, batch, replicas):
    """Little's law."""
    rate = requests_per_s(answers, step, batch, replicas)

    assert rate * answers.seconds(step, batch) == pytest.approx(batch * replicas)


@given(ANSWERS, STEPS, st.floats(0.01, 100))
@LAW
def test_the_batch_of_a_deadline_keeps_it_and_one_more_does_not(answers, step, deadline_s):
    batch = answers.batch_within(step, deadline_s)

    if batch:
        assert answers.seconds(step, batch) <= deadline_s * (1 + 1e-6)
    assert answers.seconds(step, batch + 1) > deadline_s * (1 - 1e-6)


@given(ANSWERS, STEPS, BATCHES, st.floats(0.01, 1000), st.floats(0.1, 1))
@LAW
def test_replicas_bear_the_rate_and_one_less_does_not(answers, step, batch, rate, utilisation):
    replicas = replicas_for(rate, answers, step, batch, utilisation)

    bearable = utilisation * requests_per_s(answers, step, batch, replicas)
    assert rate <= bearable * (1 + 1e-6)
    one_less = utilisation * requests_per_s(answers, step, batch, replicas - 1)
    assert one_less < rate * (1 + 1e-6)


def test_a_step_below_the_floor_takes_the_floor():
    step = StepTime(floor_s=0.01, base_s=0.002, token_s=0.001)

    assert step.seconds(1) == step.seconds(8) == 0.01
    assert step.seconds(10) == pytest.approx(0.012)


def test_steps_that_fit_and_the_load_at_the_fewest():
    step = StepTime(floor_s=0, base_s=0, token_s=0.001)
    answers = Answers(canvas_tokens=100, steps=40)

    assert answers.steps_within(step, 2.0, batch=1) == 20
    assert answers.steps_within(step, 2.0, batch=2) == 10
    rate = 1.5 * requests_per_s(answers, step, batch=2)
    assert min_steps_load(rate, answers, 20, step, 2, 1) == pytest.approx(0.75)
