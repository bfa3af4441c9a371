"""The exchange's clock under simulated round trips: its error is known, and no minute is spent twice."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.weight_allowance import WeightAllowance
from pipeline_assets.resources.weight_budget import Priority, WeightBudget
from pipeline_assets_tests.examples import examples

NOON_MS = to_milliseconds(datetime(2026, 11, 20, 12, tzinfo=UTC))
DELAY = st.floats(0, 8)
SAMPLES = st.lists(st.tuples(DELAY, DELAY, st.floats(0, 400)), min_size=1, max_size=12)


class Simulation:
    """A machine and an exchange whose clocks drift apart, and a line with delays."""

    def __init__(self, start_ms=NOON_MS, drift=0.0):
        self.now = 1000.0
        self.start_ms, self.drift = start_ms, drift
        self.under_way = []

    def monotonic(self):
        return self.now

    def true_ms(self, moment=None):
        passed = (self.now if moment is None else moment) - 1000.0
        return self.start_ms + 1000 * passed * (1 + self.drift)

    def measure(self, clock, up, down):
        sent = self.now
        self.now += up
        server_ms = int(self.true_ms())
        self.now += down
        clock.measure(server_ms, sent, self.now)

    async def sleep(self, seconds):
        """Let time pass; a request that ends within that time ends at its own time."""
        until = self.now + seconds
        for end, settle in sorted(self.under_way, key=lambda each: each[0]):
            if end <= until:
                self.now = max(self.now, end)
                settle()
        self.under_way = [each for each in self.under_way if each[0] > until]
        self.now = until


@settings(deadline=None, max_examples=examples(50))
@given(samples=SAMPLES, drift=st.floats(-9e-5, 9e-5), later=st.floats(0, 600))
def test_time_is_within_the_error(samples, drift, later):
    """The true time is within the stated error."""
    simulation = Simulation(drift=drift)
    clock = ExchangeClock(simulation.monotonic)
    for up, down, pause in samples:
        simulation.measure(clock, up, down)
        simulation.now += pause
        assert abs(simulation.true_ms() - clock.now_ms()) <= clock.error_ms() + 2
    simulation.now += later
    assert abs(simulation.true_ms() - clock.now_ms()) <= clock.error_ms() + 2


@settings(deadline=None, max_examples=examples(50))
@given(samples=SAMPLES, drift=st.floats(-9e-5, 9e-5), start=st.floats(0, 60_000))
def test_certain_minute_is_the_exchanges(samples, drift, start):
    """A minute that the clock calls certain is the exchange's minute."""
    simulation = Simulation(NOON_MS + start, drift)
    clock = ExchangeClock(simulation.monotonic)
    for up, down, pause in samples:
        simulation.measure(clock, up, down)
        simulation.now += pause % 3
        wait = clock.until_certain_ms()
        simulation.now += (wait + 1) / 1000 if wait else 0
        if not clock.until_certain_ms():
            assert clock.minute() == int(simulation.true_ms()) // 60_000


def test_slow_reply_replaces_no_quick_one():
    """A slow reply does not replace the measurement of a quick one."""
    simulation = Simulation()
    clock = ExchangeClock(simulation.monotonic)
    simulation.measure(clock, 0.02, 0.02)
    simulation.now += 60
    simulation.measure(clock, 9, 0)
    assert abs(simulation.true_ms() - clock.now_ms()) <= 2
    assert clock.error_ms() < 30


def test_quick_reply_expires_after_minutes():
    """The measurement of a quick reply is kept for minutes only."""
    simulation = Simulation()
    clock = ExchangeClock(simulation.monotonic)
    simulation.measure(clock, 0.02, 0.02)
    simulation.now += 301
    simulation.measure(clock, 0.5, 0.5)
    assert clock.error_ms() == pytest.approx(500.5, abs=1)


def test_exchange_with_reset_clock_is_believed():
    """The measurement follows an exchange whose clock was set."""
    simulation = Simulation()
    clock = ExchangeClock(simulation.monotonic)
    simulation.measure(clock, 0.02, 0.02)
    simulation.start_ms += 3_600_000
    simulation.measure(clock, 1, 1)
    assert abs(simulation.true_ms() - clock.now_ms()) <= clock.error_ms()


def test_time_is_measured_each_minute():
    """The time is measured each minute, and sooner after a slow reply."""
    simulation = Simulation()
    clock = ExchangeClock(simulation.monotonic)
    assert clock.due
    simulation.measure(clock, 2, 2)
    assert not clock.due
    simulation.now += 5
    assert clock.due
    simulation.measure(clock, 0.01, 0.01)
    simulation.now += 59
    assert not clock.due
    simulation.now += 1
    assert clock.due


@settings(deadline=None, max_examples=12)
@given(
    up=st.floats(0, 8),
    down=st.floats(0, 8),
    start=st.floats(0, 60_000),
    delays=st.lists(st.floats(0, 2), min_size=8, max_size=8),
)
def test_no_minute_exceeds_its_weight(redis_server, up, down, start, delays):
    """No minute of the exchange gets more requests than its weight allows.

    Forty requests under way at the turn of the minute, after a first reply of any slowness.
    """
    redis_server.client().flushall()
    capacity = 100
    budget = WeightBudget(redis_server.settings(), "simulated", limit=capacity, margin=0)
    simulation = Simulation(NOON_MS + start)
    clock = ExchangeClock(simulation.monotonic)
    simulation.measure(clock, up, down)
    allowance = WeightAllowance(budget, Priority.BACKFILL, clock, simulation.sleep)
    counted = {}

    async def spend():
        allowance.expected = 10_000
        for number in range(120):
            minute = await allowance.take(2)
            delay = delays[number % len(delays)]
            arrival = int(simulation.true_ms(simulation.now + delay)) // 60_000
            counted[arrival] = counted.get(arrival, 0) + 2
            simulation.under_way.append(
                (simulation.now + 2 * delay, lambda minute=minute: allowance.settle(minute, 2))
            )
            if number % 40 == 39:
                await simulation.sleep(delay)

    asyncio.run(spend())
    assert max(counted.values()) <= capacity
