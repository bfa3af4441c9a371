"""Slots are written in any order, ticks die anywhere, Redis loses its data: the candidates are those
computed over the true history in order."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets_tests.fixtures.candidates import (
    MINUTE,
    STRATEGIES,
    CandidateSensor,
    topic_of_its_own,
)
from pipeline_assets_tests.fixtures.platform import platform_without_snowflake
from pipeline_assets_tests.fixtures.s3 import make_bucket

BTC = "BTCUSDT"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEATHS = ("before publish", "after publish", "before write", "after write", "before cursor")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 20)),
        st.tuples(st.just("slots"), st.lists(st.integers(0, 14), min_size=1, max_size=6)),
        st.tuples(st.just("collect"), st.none()),
        st.tuples(st.just("tick"), st.none()),
        st.tuples(st.just("die"), st.sampled_from(DEATHS)),
        st.tuples(st.just("flush"), st.none()),
    ),
    min_size=3,
    max_size=14,
)


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Mortal:
    """A resource whose calls of one method end before or after they are done."""

    def __init__(self, resource: Any, method: str, death: str) -> None:
        self._resource, self._method, self._death = resource, method, death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        if name != self._method:
            return found

        def call(*arguments: Any) -> Any:
            if self._death.startswith("before"):
                raise Died
            found(*arguments)
            raise Died

        return call


def die(sensor: CandidateSensor, death: str) -> None:
    """A tick that dies at a point, unless it has nothing to do at that point."""
    whole, cursor = dict(sensor.resources), sensor.cursor
    method = death.split()[1]
    if method != "cursor":
        name = {"publish": "candidate_topic", "write": "indicator_states"}[method]
        sensor.resources[name] = Mortal(whole[name], method, death)
    try:
        sensor.tick()
    except Died:
        assert method != "cursor"
    finally:
        sensor.resources = whole
    if method == "cursor":
        sensor.cursor = cursor


@pytest.fixture
def begun(tmp_path, exchange, s3_server, redis_server, kafka_server):
    """Makes a sensor of one symbol after its first tick, with all servers empty before."""

    def begin() -> Any:
        exchange.reset()
        redis_server.client().flushall()
        return platform_without_snowflake(
            tmp_path,
            exchange,
            make_bucket(s3_server),
            redis_server.url,
            symbols=BTC,
            strategies=STRATEGIES,
            kafka=topic_of_its_own(kafka_server),
            # However late a minute is evaluated, its candidates are published and can be compared.
            candidates={"publish_minutes": 1440},
        )

    return begin


def true_whatever_happens(begun: Any, steps: list[tuple[str, Any]]) -> None:
    """Take these steps, let the sensor come to rest, and compare what it published with the truth."""
    with begun() as platform:
        platform.ingest("1m")
        sensor = CandidateSensor(platform)
        sensor.tick()
        redis = sensor.redis_client()
        for step, what in steps:
            if step == "pass":
                sensor.minutes(what, slots=False)
            elif step == "slots":
                newest = sensor.newest()
                recent = sensor.candles(newest - 14 * MINUTE, newest)
                for place in what:
                    sensor.slots.write(recent[place : place + 1])
            elif step == "collect":
                sensor.collect()
            elif step == "tick":
                sensor.tick()
            elif step == "die":
                die(sensor, what)
            else:
                redis.flushall()
        sensor.minutes(4)
        sensor.tick()
        found = set(sensor.published_ids())
        due = sensor.expected(NOON - MINUTE, sensor.newest())
        # A slot that is filled late has its minute evaluated, also one from before the first tick.
        true = sensor.expected(NOON - 20 * MINUTE, sensor.newest())
        assert set(due["id"]) - found == set(), "lost"
        assert found - set(true["id"]) == set(), "invented"


_UNHURRIED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@settings(_UNHURRIED, max_examples=3)
@given(STEPS)
def test_any_order_finds_true_candidates(begun, steps) -> None:
    """In whatever order things happen, the candidates are the true ones."""
    true_whatever_happens(begun, steps)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@settings(_UNHURRIED, max_examples=40)
@given(STEPS)
def test_in_forty_more_orders_as_well(begun, steps) -> None:
    true_whatever_happens(begun, steps)
