"""Limits of a key: what they promise for every 60 seconds, whatever the order of calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import ApiError
from deployments.key_file import Key
from deployments.rate_limits import WINDOW_S, RateLimiter, SlidingWindow
from tests.deployments.test_key_file import Clock

HASHES = ["ab" * 32, "cd" * 32]
GAPS = st.lists(st.integers(0, 64 * 40).map(lambda ticks: ticks / 64), max_size=60)
"""Seconds between calls, exact in binary."""


def key(name: int = 0, **limits: int) -> Key:
    return Key(name=f"k{name}", sha256=HASHES[name], **limits)


def refusal(limiter: RateLimiter, wanted: Key) -> ApiError | None:
    try:
        limiter.admit(wanted)
    except ApiError as refused:
        return refused
    return None


@given(GAPS, st.integers(1, 5))
def test_no_60_seconds_have_more_requests_than_the_limit(gaps, limit):
    clock, times = Clock(), []
    limiter = RateLimiter(clock)
    for gap in gaps:
        clock.now += gap
        if refusal(limiter, key(requests_per_minute=limit)) is None:
            times.append(clock.now)

    for start in times:
        assert sum(start <= time < start + WINDOW_S for time in times) <= limit


@given(GAPS, st.integers(1, 5))
def test_a_refused_request_is_let_in_after_the_wait_and_not_before(gaps, limit):
    clock = Clock()
    limiter, wanted = RateLimiter(clock), key(requests_per_minute=limit)
    for gap in gaps:
        clock.now += gap
        if (refused := refusal(limiter, wanted)) is not None:
            assert refused.code == "rate_limit_exceeded"
            clock.now += refused.retry_after_s - 1 / 64
            assert refusal(limiter, wanted) is not None
            clock.now += 1 / 64
            assert refusal(limiter, wanted) is None


@given(GAPS, st.integers(1, 500), st.data())
def test_no_request_is_let_in_while_a_minutes_token_forwards_are_used(gaps, limit, data):
    clock, charges = Clock(), []
    limiter, wanted = RateLimiter(clock), key(token_forwards_per_minute=limit)
    for gap in gaps:
        clock.now += gap
        used = sum(cost for time, cost in charges if clock.now < time + WINDOW_S)
        refused = refusal(limiter, wanted)
        assert (refused is None) is (used < limit)
        if refused is None:
            cost = data.draw(st.integers(0, 400))
            limiter.charge(wanted, cost)
            charges.append((clock.now, cost))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_no_more_requests_run_at_a_time_than_the_limit(begins, limit):
    limiter, wanted, running = RateLimiter(Clock()), key(concurrent_requests=limit), 0
    for begin in begins:
        if begin:
            refused = refusal(limiter, wanted)
            assert (refused is None) is (running < limit)
            running += refused is None
        elif running:
            limiter.release(wanted)
            running -= 1


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 100)), max_size=40))
def test_a_window_holds_what_was_added_in_its_time(added):
    window, now, all_of_it = SlidingWindow(), 0.0, []
    for gap, amount in added:
        now += gap / 64
        window.add(now, amount)
        all_of_it.append((now, amount))
        assert window.used(now) == sum(a for at, a in all_of_it if now < at + WINDOW_S)
        assert window.used(now) > 0
        assert window.reset_s(now) == WINDOW_S


def test_keys_do_not_use_up_each_others_limits():
    limiter = RateLimiter(Clock())
    for name in (0, 1):
        wanted = key(name, requests_per_minute=1, concurrent_requests=1)
        assert refusal(limiter, wanted) is None
        assert refusal(limiter, wanted).code == "queue_full_for_key"


def test_what_is_refused_counts_for_nothing():
    clock = Clock()
    limiter, wanted = RateLimiter(clock), key(requests_per_minute=1)
    assert refusal(limiter, wanted) is None
    clock.now = 59.0
    assert refusal(limiter, wanted).retry_after_s == 1
    clock.now = 60.0

    assert refusal(limiter, wanted) is None


def test_a_lower_limit_holds_at_once_for_what_was_used_before():
    limiter = RateLimiter(Clock())
    for _ in range(3):
        limiter.admit(key(requests_per_minute=5))

    assert refusal(limiter, key(requests_per_minute=3)).code == "rate_limit_exceeded"
    assert refusal(limiter, key(requests_per_minute=4)) is None


def test_headers_show_limit_rest_and_reset_of_the_limits_that_there_are():
    clock = Clock()
    limiter = RateLimiter(clock)
    wanted = key(requests_per_minute=5, token_forwards_per_minute=100)
    limiter.admit(wanted)
    limiter.charge(wanted, 130)
    clock.now = 1.5

    assert limiter.headers(wanted) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "58.500s",
        "x-ratelimit-limit-token-forwards": "100",
        "x-ratelimit-remaining-token-forwards": "0",
        "x-ratelimit-reset-token-forwards": "58.500s",
    }
    assert limiter.headers(key(concurrent_requests=1)) == {}


@pytest.mark.parametrize("forwards", [0, 99])
def test_a_request_may_cost_more_than_what_is_left(forwards):
    limiter, wanted = RateLimiter(Clock()), key(token_forwards_per_minute=100)
    limiter.charge(wanted, forwards)

    limiter.admit(wanted)
    limiter.charge(wanted, 10_000)

    assert refusal(limiter, wanted).code == "rate_limit_exceeded"
