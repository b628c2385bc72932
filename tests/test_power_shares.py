"""Energy is charged to who kept the hardware busy, by busy time, and never twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.executor.power import SharedMeter
from power_world import Clock, Counter
from toys import numbers, stage

A, B = stage(numbers(1), name="a"), stage(numbers(1), name="b")


@pytest.fixture
def counter():
    return Counter(Clock())


@pytest.fixture
def meter(counter):
    return SharedMeter(counter, counter.clock)


def call(meter, counter, seconds, elements=8, of=A):
    token = meter.begin(of)
    counter.advance(seconds)
    meter.end(token, elements)


def test_a_run_of_fast_calls_is_charged_as_a_whole(meter, counter):
    for _ in range(100):
        call(meter, counter, 2e-4)
    energy = meter.take(A)
    assert energy.joules == pytest.approx(50 * 0.02)
    assert (energy.elements, energy.calls, energy.split) == (800, 100, False)
    assert energy.busy_seconds == pytest.approx(0.02)
    assert energy.watts == pytest.approx(50)
    assert counter.reads <= 6, "a window is several steps long, however many calls it holds"


def test_the_counter_s_step_is_uncertain_once_a_span(meter, counter):
    for _ in range(100):
        call(meter, counter, 2e-4)
    assert meter.take(A).edge_joules == pytest.approx(50 * 1e-3)
    for _ in range(3):
        call(meter, counter, 0.01)
        counter.advance(1.0)
    assert meter.take(A).edge_joules == pytest.approx(50 * 1e-3 * 3**0.5)


def test_idle_time_is_nobody_s(meter, counter):
    for _ in range(5):
        call(meter, counter, 0.01)
        counter.watts = 1e6
        counter.advance(2.0)
        counter.watts = 50.0
    assert meter.take(A).joules == pytest.approx(50 * 0.05)


def test_short_pauses_are_charged_by_the_share_of_busy_time(meter, counter):
    for _ in range(100):
        call(meter, counter, 1e-3)
        counter.advance(1e-3)
    assert meter.take(A).joules == pytest.approx(50 * 0.1, rel=0.02)


def test_two_at_once_divide_by_busy_time_and_say_so(meter, counter):
    first = meter.begin(A)
    counter.advance(0.1)
    second = meter.begin(B)
    counter.advance(0.1)
    meter.end(first, 4)
    counter.advance(0.1)
    meter.end(second, 4)
    a, b = meter.take(A), meter.take(B)
    assert a.joules + b.joules == pytest.approx(50 * 0.3)
    assert (a.split, b.split) == (True, True)
    # The window to A's end holds 0.2 s of A and 0.1 s of B; the rest is B's.
    assert a.joules == pytest.approx(10 * 2 / 3)
    assert b.joules == pytest.approx(10 / 3 + 5)


def test_a_long_call_pays_beside_many_short_ones(meter, counter):
    long = meter.begin(A)
    for _ in range(50):
        call(meter, counter, 0.01, of=B)
    meter.end(long, 1)
    a, b = meter.take(A), meter.take(B)
    assert a.joules == pytest.approx(12.5)
    assert b.joules == pytest.approx(12.5)


def test_a_counter_lost_midway_ends_the_account(meter, counter):
    for _ in range(10):
        call(meter, counter, 0.01)
    counter.broken = True
    for _ in range(10):
        call(meter, counter, 0.01)
    energy = meter.take(A)
    assert energy.busy_seconds == pytest.approx(0.1)
    assert energy.watts == pytest.approx(50)
    assert meter.take(A) is None
    counter.broken = False
    call(meter, counter, 0.01)
    assert meter.take(A).joules == pytest.approx(0.5), "a counter that came back counts again"


def test_what_was_taken_is_gone(meter, counter):
    call(meter, counter, 1e-4)
    assert meter.take(A).calls == 1
    assert meter.take(A) is None
    assert meter.take(B) is None


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 0.02), st.floats(1.0, 200.0)),
        max_size=60,
    )
)
def test_nothing_is_charged_twice(events):
    """Whatever begins and ends when: what is charged is at most what was drawn while busy."""
    counter = Counter(Clock())
    meter = SharedMeter(counter, counter.clock)
    running = {"a": [], "b": []}
    drawn = 0.0
    for name, begins, seconds, watts in events:
        if begins:
            running[name].append(meter.begin(A if name == "a" else B))
        elif running[name]:
            meter.end(running[name].pop(), 3)
        counter.watts = watts
        counter.advance(seconds)
        drawn += watts * seconds
    for tokens in running.values():
        for token in tokens:
            meter.end(token, 3)
    charged = [e for e in (meter.take(A), meter.take(B)) if e is not None]
    assert sum(e.joules for e in charged) <= drawn + 1e-6
    assert all(e.joules >= 0 and e.busy_seconds >= 0 for e in charged)
