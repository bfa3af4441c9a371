"""A backtest's inputs on a real S3 server: candles, listings, filters, and damage to these."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from pipeline_assets.market.trading_rules import Fees, TradingRules
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.research.backtest import run_backtest
from pipeline_assets.research.backtest_types import BacktestRequest, BacktestResult
from pipeline_assets.research.lookahead import check_strategies
from pipeline_assets.research.lookahead_history import FUTURE, stored_history
from pipeline_assets.research.readers import LakeCandles, lake_documents
from pipeline_assets.research.report import report_of
from pipeline_assets.research.report_candles import ChartedCandles
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.trading_documents import note_fees, note_trading_rules
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, store_damaged
from pipeline_assets_tests.fixtures.listings import LISTED, NEVER, NOON, listing
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.research.held_candles import strategies
from pipeline_assets_tests.research.test_candle_columns import READ, reading

pytestmark = pytest.mark.xdist_group("compiled")

DAYS = [date(2026, 11, 18), date(2026, 11, 19)]
RULES = TradingRules(*(Decimal(text) for text in ("0.01", "0.001", "0.001", "1000", "5")))


def key(day: date) -> str:
    return f"ohlcv/1m/BTCUSDT/{day:%Y%m%d}_0000.parquet"


def run(store: ObjectStore, *, skip_damaged: bool = False) -> BacktestResult:
    request = BacktestRequest(
        strategies({"name": "macd_cross"}),
        None,
        day_window(DAYS[0]).start + timedelta(hours=12),
        day_window(DAYS[1]).end,
    )
    candles = LakeCandles(store, skip_damaged=skip_damaged)
    return run_backtest(request, candles, None, lake_documents(store))


@pytest.fixture
def bucket(s3_bucket: S3Bucket) -> S3Bucket:
    """Two days of a listed symbol, and its filters."""
    store = ObjectStore(s3_bucket.settings())
    for day in DAYS:
        store.put(key(day), encoded_day("BTCUSDT", day))
    note_identities(store, [listing()], NOON)
    note_trading_rules(store, {"BTCUSDT": RULES}, LISTED)
    note_fees(store, Fees(Decimal("0.0001"), Decimal("0.0004")), LISTED)
    return s3_bucket


def test_lake_has_all_a_backtest_needs(bucket: S3Bucket) -> None:
    """Symbols, filters and fees come from the lake: nothing is assumed."""
    store = ObjectStore(bucket.settings())
    result = run(store)
    assert result.counts.candles == 2160
    assert result.trades.num_rows > 10
    assert result.request["symbols"] == ["BTCUSDT"]
    assert list(result.assumptions) == ["No funding rates were given: funding is left out."]
    trade = result.trades.to_pylist()[0]
    value = trade["quantity"] * (trade["entry_price"] + trade["exit_price"])
    assert trade["fees"] == pytest.approx(value * 0.0004)
    assert run(store).checksum == result.checksum


def test_lookahead_reads_every_column(bucket: S3Bucket) -> None:
    """The check judges strategies that read any column of a candle over the lake's objects."""
    store, chosen = ObjectStore(bucket.settings()), [reading(name) for name in READ]
    history = stored_history(store, chosen, ["BTCUSDT"], DAYS[1], 20)
    report = check_strategies(chosen, history, 20, future=FUTURE)
    assert (report.findings, report.failures) == ([], {})


def test_report_reads_candles_once(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts are those of the candles that the backtest read, and equal those that are read again."""
    store = ObjectStore(bucket.settings())
    span = Window(day_window(DAYS[0]).start + timedelta(hours=12), day_window(DAYS[1]).end)
    request = BacktestRequest(strategies({"name": "macd_cross"}), None, span.start, span.end)
    charted = ChartedCandles(store, span)
    result = run_backtest(request, charted, None, lake_documents(store))
    with monkeypatch.context() as unreadable:
        unreadable.setattr(LakeCandles, "candles", lambda *_: pytest.fail("read again"))
        page = report_of(result, charted)
    assert page == report_of(result, LakeCandles(store))


def test_damaged_object_is_named(bucket: S3Bucket) -> None:
    """One day is damaged: the backtest ends, or goes on without the day where that is asked for."""
    store, body = ObjectStore(bucket.settings()), encoded_day("BTCUSDT", DAYS[1])
    store_damaged(bucket, key(DAYS[1]), body, flip_bit(body, 4000))
    with pytest.raises(DamagedObjectError, match="20261119_0000"):
        run(store)
    result = run(store, skip_damaged=True)
    assert (list(result.damaged), result.counts.candles) == ([key(DAYS[1])], 720)


def test_listings_bound_the_universe(bucket: S3Bucket) -> None:
    store = ObjectStore(bucket.settings())
    end = NOON + timedelta(hours=1)
    note_identities(store, [listing(), listing("OLDUSDT", delivery_date=end)], NOON)
    assert LakeCandles(store).listed() == {
        "BTCUSDT": [Window(LISTED, NEVER.replace(month=1, day=1, hour=0))],
        "OLDUSDT": [Window(LISTED, end)],
    }


def test_filters_are_kept_at_changes(bucket: S3Bucket) -> None:
    """A repeat writes nothing; a change adds a date; what is not seen stays."""
    store = ObjectStore(bucket.settings())
    before = store.find("state/trading_rules.json")
    note_trading_rules(store, {"BTCUSDT": RULES}, NOON)
    assert store.find("state/trading_rules.json") == before
    coarse = replace(RULES, tick_size=Decimal("0.1"))
    note_trading_rules(store, {"BTCUSDT": coarse}, NOON)
    note_trading_rules(store, {"ETHUSDT": RULES}, NOON)
    kept = lake_documents(store)(["BTCUSDT", "ETHUSDT", "XRPUSDT"]).rules
    assert [(each.since, each.value) for each in kept["BTCUSDT"]] == [
        (LISTED, RULES),
        (NOON, coarse),
    ]
    assert [each.since for each in kept["ETHUSDT"]] == [NOON]
    assert "XRPUSDT" not in kept
