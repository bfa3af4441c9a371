"""The request-weight budget that all processes share, against a real Redis server."""

import itertools
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime

import pytest
import redis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.weight_budget import (
    Grant,
    Priority,
    WeightBudget,
    WeightBudgetError,
    WeightUse,
)
from pipeline_assets.settings import RedisSettings
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually

MINUTE = 60_000
NOON = int(datetime(2026, 10, 25, 12, tzinfo=UTC).timestamp() * 1000)
ORDINARY = NOON + 7 * MINUTE  # a minute in which neither a quarter nor an hour begins
LIMIT, MARGIN, CAPACITY = 2400, 60, 2340
INGEST_RUNS = (
    (Priority.INGEST_1M, Interval.ONE_MINUTE),
    (Priority.INGEST_OTHER, Interval.FIFTEEN_MINUTES),
    (Priority.INGEST_OTHER, Interval.ONE_HOUR),
)
with_server = settings(
    max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def server(redis_server, redis_url) -> RedisServer:
    return redis_server


def budget_of(server: RedisServer, egress: str = "203.0.113.7") -> WeightBudget:
    return WeightBudget(server.settings(), egress, LIMIT, MARGIN)


@pytest.fixture
def budget(server) -> WeightBudget:
    return budget_of(server)


def test_empty_minute_grants_all(budget):
    """An empty minute grants the whole request."""
    assert budget.reserve(Priority.BACKFILL, 500, ORDINARY) == Grant(500, 0)
    assert budget.use(ORDINARY) == WeightUse(500, CAPACITY, 0)


def test_lone_backfill_uses_whole_minutes(budget):
    """Without ingest runs a backfill has the whole minute, and waits for the next."""
    now = ORDINARY + 20_000
    assert budget.reserve(Priority.BACKFILL, 3000, now) == Grant(CAPACITY, 40_250)
    assert budget.reserve(Priority.BACKFILL, 660, now + 5) == Grant(0, 40_245)
    assert budget.reserve(Priority.BACKFILL, 660, now + 40_250) == Grant(660, 0)


def test_less_than_one_request_is_withheld(budget):
    """Less weight than one request needs is not granted."""
    budget.reserve(Priority.BACKFILL, CAPACITY - 1, ORDINARY)
    assert budget.reserve(Priority.BACKFILL, 10, ORDINARY, 2).weight == 0
    assert budget.reserve(Priority.BACKFILL, 10, ORDINARY, 1).weight == 1


def test_addresses_have_separate_budgets(server, budget):
    """Two addresses have separate budgets."""
    budget.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY)
    other = budget_of(server, "203.0.113.8")
    assert other.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY) == Grant(CAPACITY, 0)


def test_keys_carry_address_and_expire(server, budget):
    """Every key of a budget carries its address in braces, and expires."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    budget.reserve(Priority.INGEST_1M, 900, ORDINARY)
    budget.correct(ORDINARY + MINUTE, 5)
    budget.block_until(ORDINARY)
    client = server.client()
    keys = client.keys()
    assert len(keys) == 5
    assert all(key.startswith("weight:{203.0.113.7}:") for key in keys)
    assert all(client.ttl(key) > 0 for key in keys)


@pytest.mark.parametrize(("wanted", "minimum"), [(0, 1), (5, 6), (5, 0), (9000, CAPACITY + 1)])
def test_impossible_reservation_is_refused(budget, wanted, minimum):
    """A reservation that can never be granted is refused at once."""
    with pytest.raises(ValueError, match="weight"):
        budget.reserve(Priority.BACKFILL, wanted, ORDINARY, minimum)


@pytest.mark.parametrize(
    ("egress", "margin", "problem"),
    [("", 60, "egress"), ("a}b", 60, "egress"), ("a", 2400, "margin"), ("a", -1, "margin")],
)
def test_unworkable_budget_is_refused(egress, margin, problem):
    """A budget that cannot work is refused at once."""
    with pytest.raises(ValueError, match=problem):
        WeightBudget(RedisServer(None).settings(), egress, LIMIT, margin)


# Corrections by the exchange's replies


def test_spending_of_others_is_subtracted(budget):
    """Weight that others spent at this address is not granted again."""
    budget.reserve(Priority.INGEST_1M, 100, ORDINARY)
    budget.correct(ORDINARY + 30_000, 1340)
    assert budget.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY + 40_000).weight == 1000


def test_late_smaller_count_is_ignored(budget):
    """A late and smaller count gives no weight back."""
    budget.reserve(Priority.INGEST_1M, 1340, ORDINARY)
    budget.correct(ORDINARY, 2000)
    budget.correct(ORDINARY, 3)
    assert budget.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY).weight == 340


def test_count_ends_with_its_minute(budget):
    """A count of one minute does not apply to the next."""
    budget.correct(ORDINARY + 59_999, 2400)
    assert budget.reserve(Priority.INGEST_1M, 1, ORDINARY + 59_999).weight == 0
    assert budget.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY + 60_000) == Grant(CAPACITY, 0)


@pytest.mark.parametrize("order", itertools.permutations([30_000, 200_000, 90_000]))
def test_block_lasts_until_latest_reported_moment(server, budget, order):
    """A block holds every process until the latest moment reported."""
    for wait in order:
        budget.block_until(ORDINARY + wait)
    elsewhere = budget_of(server)
    for after in (0, 120_000, 199_999):
        for priority in Priority:
            waits = elsewhere.reserve(priority, 10, ORDINARY + after)
            assert waits == Grant(0, 200_000 - after)
    assert elsewhere.use(ORDINARY) == WeightUse(0, CAPACITY, 200_000)
    assert elsewhere.reserve(Priority.BACKFILL, 10, ORDINARY + 200_000) == Grant(10, 0)


# Who goes first


def test_room_is_left_for_expected_ingest(budget):
    """Room is left for an expected ingest run until that run has taken it."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    assert budget.reserve(Priority.BACKFILL, 5000, ORDINARY).weight == CAPACITY - 900
    assert budget.reserve(Priority.INGEST_1M, 500, ORDINARY) == Grant(500, 0)
    assert budget.reserve(Priority.BACKFILL, 5000, ORDINARY).weight == 0
    assert budget.reserve(Priority.INGEST_1M, 400, ORDINARY) == Grant(400, 0)
    assert budget.use(ORDINARY).used == CAPACITY


def test_taken_room_is_not_kept_twice(budget):
    """Weight that an ingest run has taken is not kept for it again."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    budget.reserve(Priority.INGEST_1M, 900, ORDINARY)
    assert budget.reserve(Priority.BACKFILL, 5000, ORDINARY).weight == CAPACITY - 900


def test_ended_ingest_loses_its_room(budget):
    """After three periods without a run, no room is left for an interval's ingest runs."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    room = [
        budget.reserve(Priority.BACKFILL, 5000, ORDINARY + minute * MINUTE).weight
        for minute in range(5)
    ]
    assert room == [1440, 1440, 1440, 1440, 2340]


def test_longer_intervals_get_room_when_due(budget):
    """Room is left for the 15m and 1h ingest runs only when they are due."""
    before = NOON - 60 * MINUTE
    budget.expect(Priority.INGEST_OTHER, Interval.FIFTEEN_MINUTES, 900, before)
    budget.expect(Priority.INGEST_OTHER, Interval.ONE_HOUR, 400, before)
    due = {
        minute: CAPACITY - budget.reserve(Priority.FINALIZE, 5000, NOON + minute * MINUTE).weight
        for minute in range(-2, 32)
    }
    kept = {minute: weight for minute, weight in due.items() if weight}
    # The 15m demand was said 60 minutes before noon and lapses after 45.
    assert kept == {0: 400, 1: 400}
    budget.expect(Priority.INGEST_OTHER, Interval.FIFTEEN_MINUTES, 900, NOON + 31 * MINUTE)
    for minute, free in [(44, 2340), (45, 1440), (46, 1440), (47, 2340), (60, 1040), (61, 1040)]:
        assert budget.reserve(Priority.BACKFILL, 5000, NOON + minute * MINUTE).weight == free


def test_equal_ingests_do_not_wait(budget):
    """Ingest runs of equal priority do not hold each other back."""
    budget.expect(Priority.INGEST_OTHER, Interval.ONE_HOUR, 2000, NOON)
    assert budget.reserve(Priority.INGEST_OTHER, 900, NOON) == Grant(900, 0)


def test_small_manual_ingest_keeps_room(budget):
    """An ingest run of two symbols started by hand does not take away the room of the others."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 2, ORDINARY)
    assert budget.reserve(Priority.BACKFILL, 5000, ORDINARY).weight == CAPACITY - 900
    later = ORDINARY + 4 * MINUTE
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 2, later)
    assert budget.reserve(Priority.BACKFILL, 5000, later).weight == CAPACITY - 2


def test_refused_finalize_precedes_backfill_next_minute(budget):
    """Weight refused to a finalizing run goes before the backfill in the next minute."""
    budget.reserve(Priority.BACKFILL, 2000, ORDINARY)
    assert budget.reserve(Priority.FINALIZE, 1340, ORDINARY).weight == 340
    following = ORDINARY + MINUTE
    assert budget.reserve(Priority.BACKFILL, 5000, following).weight == CAPACITY - 1000
    assert budget.reserve(Priority.FINALIZE, 1000, following) == Grant(1000, 0)


def test_owed_weight_survives_equal_requests(budget):
    """Weight owed to one is not forgotten when another of the same priority asks."""
    budget.reserve(Priority.BACKFILL, CAPACITY, ORDINARY)
    budget.reserve(Priority.FINALIZE, 1000, ORDINARY)
    following = ORDINARY + MINUTE
    budget.reserve(Priority.FINALIZE, 10, following)
    assert budget.reserve(Priority.BACKFILL, 5000, following).weight == CAPACITY - 1000


def test_refused_weight_is_kept_one_minute(budget):
    """Refused weight is kept for no longer than the next minute."""
    budget.reserve(Priority.FINALIZE, CAPACITY + 500, ORDINARY)
    after = ORDINARY + 2 * MINUTE
    assert budget.reserve(Priority.BACKFILL, 5000, after).weight == CAPACITY


def test_announced_small_steps_precede_lower_work(budget):
    """Work in small steps that announces its next ones goes before work of lower priority."""
    left, finalizing = 3000, Counter()
    backfill: Counter[int] = Counter()
    for minute in range(3):
        now = ORDINARY + minute * MINUTE
        for _ in range(200):
            backfill[minute] += budget.reserve(Priority.BACKFILL, 20, now).weight
            if left:
                taken = budget.reserve(Priority.FINALIZE, 20, now, later=left - 20).weight
                left, finalizing[minute] = left - taken, finalizing[minute] + taken
    assert finalizing == {0: CAPACITY - 20, 1: 3000 - CAPACITY + 20}
    assert backfill == {0: 20, 1: CAPACITY - finalizing[1], 2: CAPACITY}


demand = st.integers(1, 900)
step = st.tuples(
    st.sampled_from(Priority), st.integers(1, 3000), st.integers(1, 20), st.integers(0, 500)
)


@with_server
@given(st.lists(st.tuples(st.integers(0, 2), step, st.none() | st.integers(0, 2400)), max_size=30))
def test_no_order_exceeds_the_capacity(server, budget, steps):
    """No order of reservations spends more than the capacity."""
    server.client().flushall()
    minute, granted, said = 0, Counter(), Counter()
    for forward, (priority, wanted, minimum, later), header in steps:
        minute += forward
        now = NOON + minute * MINUTE
        if header is not None:
            budget.correct(now, header)
            said[minute] = max(said[minute], header)
        budget.expect(*INGEST_RUNS[minute % 3], wanted, now)
        before = max(granted[minute], said[minute])
        grant = budget.reserve(priority, wanted, now, min(minimum, wanted), later=later)
        assert grant.weight in range(wanted + 1)
        assert grant.weight == 0 or before + grant.weight <= CAPACITY
        assert (grant.wait_ms > 0) == (grant.weight < wanted)
        granted[minute] += grant.weight
    assert all(total <= CAPACITY for total in granted.values())


@with_server
@given(
    demands=st.tuples(demand, demand, demand),
    minute=st.builds(
        lambda quarter, into: 15 * quarter + into, st.integers(0, 8), st.integers(0, 2)
    ),
    steps=st.lists(step, max_size=15),
    data=st.data(),
)
def test_expected_ingest_always_gets_weight(server, budget, demands, minute, steps, data):
    """An expected ingest run gets its weight whatever lower priorities ask before."""
    server.client().flushall()
    now = NOON + minute * MINUTE
    for (priority, interval), weight in zip(INGEST_RUNS, demands, strict=True):
        budget.expect(priority, interval, weight, now)
    lower_than = data.draw(st.sampled_from([Priority.INGEST_1M, Priority.INGEST_OTHER]))
    for priority, wanted, minimum, later in steps:
        if priority < lower_than:
            budget.reserve(priority, wanted, now, min(minimum, wanted), later=later)
    if lower_than == Priority.INGEST_1M:
        assert budget.reserve(Priority.INGEST_1M, demands[0], now) == Grant(demands[0], 0)
        return
    due = [
        (interval, weight)
        for (_, interval), weight in zip(INGEST_RUNS[1:], demands[1:], strict=True)
        if minute % {Interval.FIFTEEN_MINUTES: 15, Interval.ONE_HOUR: 60}[interval] < 2
    ]
    assume(due and sum(weight for _, weight in due) + demands[0] <= CAPACITY)
    for _, weight in due:
        assert budget.reserve(Priority.INGEST_OTHER, weight, now) == Grant(weight, 0)
    assert budget.reserve(Priority.INGEST_1M, demands[0], now) == Grant(demands[0], 0)


SHARE = 20
below_gateway = [each for each in Priority if each < Priority.GATEWAY]


@with_server
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(below_gateway), demand, st.integers(0, SHARE)),
        max_size=30,
    )
)
def test_gateway_share_is_never_taken(server, budget, steps):
    """The gateway's share of each minute is granted at once, and with it the capacity is kept.

    Lower priorities ask for all they can get, and announce more; the gateway asks in small steps.
    """
    server.client().flushall()
    minute, granted, asked = 0, Counter(), Counter()
    for forward, priority, wanted, small in steps:
        minute += forward
        now = NOON + minute * MINUTE
        budget.expect(Priority.GATEWAY, Interval.ONE_MINUTE, SHARE, now)
        granted[minute] += budget.reserve(priority, 5 * wanted, now, later=wanted).weight
        left = min(small, SHARE - asked[minute])
        if left:
            assert budget.reserve(Priority.GATEWAY, left, now) == Grant(left, 0)
            granted[minute], asked[minute] = granted[minute] + left, asked[minute] + left
    assert all(total <= CAPACITY for total in granted.values())


@pytest.mark.parametrize("priority", below_gateway)
def test_refused_gateway_goes_first_next_minute(budget, priority):
    """A gateway that starts while a minute is spent goes before all others in the next one."""
    budget.reserve(priority, CAPACITY, ORDINARY, later=5000)
    assert budget.reserve(Priority.GATEWAY, 1, ORDINARY).weight == 0
    following = ORDINARY + MINUTE
    assert budget.reserve(priority, 5000, following).weight == CAPACITY - 1
    assert budget.reserve(Priority.GATEWAY, 1, following) == Grant(1, 0)


# The full hour of a large universe


class Work:
    """A client that needs `left` weight, asks for a batch at a time and waits as long as the budget says."""

    def __init__(self, name: str, priority: Priority, left: int, start: int, batch: int) -> None:
        self.name, self.priority, self.left, self.batch = name, priority, left, batch
        self.asks_at = self.start = start
        self.done_at = 0

    def ask(self, budget: WeightBudget, spent: Counter) -> None:
        now = self.asks_at
        wanted = min(self.left, self.batch)
        grant = budget.reserve(self.priority, wanted, now, later=self.left - wanted)
        self.left -= grant.weight
        spent[self.name, (now - NOON) // MINUTE] += grant.weight
        self.asks_at = now + max(grant.wait_ms, 1)
        if not self.left:
            self.done_at = now


def run(budget: WeightBudget, work: list[Work], until: int) -> Counter:
    """Let everybody ask in the order of time, and of the list where it is the same."""
    spent: Counter = Counter()
    while waiting := [one for one in work if one.left and one.asks_at < until]:
        min(waiting, key=lambda one: one.asks_at).ask(budget, spent)
    return spent


@pytest.mark.parametrize("batch", [900, 250])
@pytest.mark.parametrize("lower_first", [True, False])
@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_full_hour_serves_minutes_first(budget, order, lower_first, batch):
    """At a full hour of 900 symbols the 1m ingest run is served at once."""
    start = NOON + 2_000
    for priority, interval in INGEST_RUNS:
        budget.expect(priority, interval, 900, start - interval.milliseconds)
    budget.expect(*INGEST_RUNS[0], 900, start)
    other_ingest_runs = [
        Work("15m", Priority.INGEST_OTHER, 900, start, batch),
        Work("1h", Priority.INGEST_OTHER, 900, start, batch),
    ]
    lower = [
        Work("backfill", Priority.BACKFILL, 100_000, NOON, batch),
        Work("seal", Priority.FINALIZE, 500, start, batch),
    ]
    ingest_runs = [Work("1m", Priority.INGEST_1M, 900, start + k * MINUTE, batch) for k in range(4)]
    at_the_hour = [[*other_ingest_runs, ingest_runs[0]][k] for k in order]
    work = [*lower, *at_the_hour] if lower_first else [*at_the_hour, *lower]
    spent = run(budget, work + ingest_runs[1:], NOON + 4 * MINUTE)

    for ingest_run in ingest_runs:
        assert ingest_run.done_at - ingest_run.start < 10, "an ingest run of 1m had to wait"
    by_minute: Counter = Counter()
    for (_, minute), weight in spent.items():
        by_minute[minute] += weight
    assert max(by_minute.values()) <= CAPACITY
    for one in (*other_ingest_runs, lower[1]):
        assert one.left == 0, f"{one.name} did not end"
        assert one.done_at < NOON + 2 * MINUTE, f"{one.name} took more than two minutes"
    # No weight is wasted: after the large ingest runs the backfill uses every minute fully.
    assert [by_minute[minute] for minute in range(4)] == [CAPACITY] * 4


# Many processes


def _take_all(url: str, name: str, step: int) -> int:
    """Take weight until none is left, in a process of its own, starting when all processes are ready."""
    budget = WeightBudget(RedisSettings(url=url), "203.0.113.7", LIMIT, MARGIN)
    gate = redis.Redis.from_url(url, socket_timeout=None)
    gate.rpush("ready", name)
    gate.blpop(["go"], timeout=60)
    taken = 0
    while granted := budget.reserve(Priority[name], step, ORDINARY).weight:
        taken += granted
    return taken


def test_racing_processes_spend_exact_capacity(server, budget):
    """Processes that race spend exactly the capacity."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    gate = server.client()
    # Forked, not spawned: four imports of pytest and hypothesis take longer than all other tests.
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as processes:
        running = [
            processes.submit(_take_all, server.url, name, step)
            for name, step in [("BACKFILL", 7), ("FINALIZE", 3)] * 2
        ]
        assert all(gate.blpop(["ready"], timeout=60) for _ in running)
        gate.rpush("go", *range(len(running)))
        taken = [one.result() for one in running]
    assert sum(taken) == CAPACITY - 900
    assert budget.reserve(Priority.INGEST_1M, 900, ORDINARY) == Grant(900, 0)


def test_budget_works_on_a_cluster(redis_cluster):
    """A budget works through the client of a cluster."""
    server, client = redis_cluster
    budget = WeightBudget(server.settings(), "203.0.113.7", LIMIT, MARGIN, client)
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 900, ORDINARY)
    budget.correct(ORDINARY, 1000)
    assert budget.reserve(Priority.BACKFILL, 5000, ORDINARY).weight == CAPACITY - 900 - 1000
    budget.block_until(ORDINARY + 5)
    assert budget.use(ORDINARY) == WeightUse(CAPACITY - 900, CAPACITY, 5)


# A clock that was wrong


def test_wrong_clock_block_ends_with_wait(server, budget):
    """A block from a wrong clock ends when its waiting time is over.

    The block of two days with a wait of half a minute: Redis forgets it seconds after the wait.
    """
    budget.block_until(ORDINARY + 2880 * MINUTE, 30_000)
    [key] = server.client().keys("*blocked_until")
    assert 25_000 < server.client().pttl(key) <= 35_000
    server.client().pexpire(key, 1)
    eventually(lambda: budget.reserve(Priority.INGEST_1M, 1, ORDINARY).weight == 1, "it is granted")


@pytest.mark.parametrize("ahead", [0, 2880])
def test_block_lasts_for_longest_wait(server, budget, ahead):
    """A block lasts for the longest reported waiting time."""
    budget.block_until(ORDINARY + ahead * MINUTE + 30_000, 30_000)
    budget.block_until(ORDINARY + 600_000, 600_000)
    budget.block_until(ORDINARY + 10_000, 10_000)
    [key] = server.client().keys("*blocked_until")
    assert 590_000 < server.client().pttl(key) <= 605_000
    assert budget.blocked_until() == max(ORDINARY + 600_000, ORDINARY + ahead * MINUTE + 30_000)


def test_wrong_clock_demand_is_replaced(budget):
    """A demand from a wrong clock does not count and is replaced."""
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 2000, ORDINARY + 2880 * MINUTE)
    assert budget.reserve(Priority.BACKFILL, CAPACITY, ORDINARY).weight == CAPACITY
    budget.expect(Priority.INGEST_1M, Interval.ONE_MINUTE, 100, ORDINARY + MINUTE)
    assert budget.reserve(Priority.BACKFILL, CAPACITY, ORDINARY + MINUTE).weight == CAPACITY - 100


# Redis in trouble


def test_redis_outage_grants_nothing(own_redis_server):
    """While Redis is down nothing is granted, and afterwards the count continues."""
    budget = budget_of(own_redis_server)
    budget.reserve(Priority.INGEST_1M, 900, ORDINARY)
    own_redis_server.kill()
    for call in (
        lambda: budget.reserve(Priority.INGEST_1M, 1, ORDINARY),
        lambda: budget.expect(*INGEST_RUNS[0], 1, ORDINARY),
        lambda: budget.correct(ORDINARY, 1),
        lambda: budget.block_until(ORDINARY),
        lambda: budget.use(ORDINARY),
    ):
        with pytest.raises(WeightBudgetError, match=own_redis_server.url):
            call()
    own_redis_server.start()
    assert budget.reserve(Priority.INGEST_1M, CAPACITY, ORDINARY).weight == CAPACITY - 900


def test_refused_credentials_name_setting_only(tmp_path):
    """The error for refused credentials names the setting and no secret."""
    with RedisServer(tmp_path, SecretStr("the-real-secret")) as server:
        settings = server.settings(password=SecretStr("guessed-secret"))
        budget = WeightBudget(settings, "203.0.113.7", LIMIT, MARGIN)
        with pytest.raises(WeightBudgetError, match="PIPELINE_REDIS__PASSWORD") as caught:
            budget.reserve(Priority.INGEST_1M, 1, ORDINARY)
    assert "secret" not in str(caught.value)


def test_block_names_its_cause(budget):
    """A block names its cause until it is lifted."""
    assert budget.block() is None
    budget.block_until(ORDINARY + 60_000, 60_000, "HTTP 429 in the reply to the server time")
    budget.block_until(ORDINARY + 30_000, 30_000, "an earlier one")
    block = budget.block()
    assert block.until_ms == ORDINARY + 60_000
    assert 0 < block.left_ms <= 60_000
    assert block.cause == "HTTP 429 in the reply to the server time"
    assert budget.reserve(Priority.INGEST_1M, 1, ORDINARY).weight == 0

    assert budget.unblock().cause == block.cause
    assert budget.unblock() is None
    assert budget.block() is None
    assert budget.reserve(Priority.INGEST_1M, 1, ORDINARY).weight == 1
