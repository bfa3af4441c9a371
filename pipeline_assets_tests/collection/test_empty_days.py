"""When a day of which nothing came is believed to be empty, and what is remembered until then."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.collection.empty_days import believed_empty_days
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import STABLE_AFTER
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets_tests.fixtures.platform import Platform

DAY = date(2026, 11, 18)
NEWEST = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
LISTED = datetime(2026, 11, 18, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def client(minutes: Platform) -> Iterator[ExchangeClient]:
    """Return a client of an exchange that serves no candle of the day or later."""
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    with Exchange(minutes.settings).client(Priority.BACKFILL, patient=False) as made:
        yield made


@pytest.fixture
def store(minutes: Platform) -> ObjectStore:
    return ObjectStore(minutes.settings.s3)


def empty_plan(
    passed: timedelta, *, listed: datetime = LISTED, confirmed: tuple[str, ...] = ("AUSDT", "BUSDT")
) -> FetchPlan:
    """Return a run of two symbols, so long after noon, whose empty answers the exchange confirmed."""
    due = Window(listed, day_window(DAY).end)
    return FetchPlan(
        interval=Interval.ONE_MINUTE,
        kind=RunKind.BACKFILL,
        days=[DAY],
        newest=NEWEST,
        # The run's clock is this machine's and the offset.
        clock_offset=NEWEST + passed - datetime.now(UTC),
        listed=dict.fromkeys(("AUSDT", "BUSDT"), Listed(listed)),
        windows=dict.fromkeys(("AUSDT", "BUSDT"), due),
        confirmed={symbol: [due] for symbol in confirmed},
    )


def test_repeated_empty_answer_is_believed(client: ExchangeClient, store: ObjectStore) -> None:
    """The same empty answer to another run hours later is believed."""
    assert believed_empty_days(client, store, empty_plan(0 * HOUR), None, "first") == []
    # Soon after, and by the first run itself however late it is executed again.
    assert believed_empty_days(client, store, empty_plan(STABLE_AFTER / 2), None, "second") == []
    assert believed_empty_days(client, store, empty_plan(9 * HOUR), None, "first") == []
    for _ in range(2):
        found = believed_empty_days(client, store, empty_plan(STABLE_AFTER + HOUR), None, "second")
        assert found == [DAY]


def test_only_same_answer_confirms(client: ExchangeClient, store: ObjectStore) -> None:
    """Only the same answer is a confirmation.

    Not one of some symbols, nor one of a symbol that turned out to have traded longer.
    """
    believed_empty_days(client, store, empty_plan(0 * HOUR), None, "first")
    of_one = empty_plan(9 * HOUR, confirmed=("AUSDT",))
    assert believed_empty_days(client, store, of_one, None, "second") == []
    longer = empty_plan(9 * HOUR, listed=LISTED - HOUR)
    assert believed_empty_days(client, store, longer, None, "third") == []
    longer = empty_plan(18 * HOUR, listed=LISTED - HOUR)
    assert believed_empty_days(client, store, longer, None, "fourth") == [DAY]


def test_candle_clears_the_empty_answer(client: ExchangeClient, store: ObjectStore) -> None:
    """An empty answer is forgotten once a candle of the day came."""
    believed_empty_days(client, store, empty_plan(0 * HOUR), None, "first")
    assert believed_empty_days(client, store, empty_plan(HOUR), LISTED, "second") == [DAY]
    assert list(store.objects("state/empty_answers/")) == []
    assert believed_empty_days(client, store, empty_plan(9 * HOUR), None, "third") == []


def test_lost_memory_only_delays_belief(client: ExchangeClient, store: ObjectStore) -> None:
    """A lost or damaged record of empty answers only delays the belief."""
    believed_empty_days(client, store, empty_plan(0 * HOUR), None, "first")
    store.put("state/empty_answers/1m/20261118.json", b'{"AUSDT": ["2026-11-18", 7]}')
    assert believed_empty_days(client, store, empty_plan(9 * HOUR), None, "second") == []
    assert believed_empty_days(client, store, empty_plan(18 * HOUR), None, "third") == [DAY]
