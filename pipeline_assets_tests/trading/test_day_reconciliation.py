"""A day of a gateway on the venue `demo` of the replay exchange, compared by the copy of its journal."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

from pipeline_assets.market.trading_rules import UNIT, units
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.day_reconciliation import DayReconciliation, reconcile_day
from pipeline_assets.trading.ledger_differences import AccountDay, DayFill, differences
from pipeline_assets.trading.record_copy import RecordCopy
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.trading.binance_bench import (
    VenueBench,
    new_order,
    prepared,
    settings_at,
)
from pipeline_assets_tests.trading.gateway_bench import GatewayBench
from pipeline_assets_tests.trading.test_binance_gateway import WIDE, until

DAY = date(2026, 11, 20)
AFTERNOON = datetime(2026, 11, 20, 16, 1, 30, tzinfo=UTC)
MORNING = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)


async def trade(
    running: ExchangeHandle, settings: Settings, store: ObjectStore, journal: Path
) -> None:
    """Open a position, keep it over a funding time, close it, and copy the records to the lake."""
    await prepared(settings)
    venue = VenueBench(settings)
    await venue.account.open()
    await venue.account.synchronize()
    await venue.account.close()
    bench = GatewayBench(journal, venue.venue, limits=WIDE, clock=venue.time)
    state = bench.core.state
    copy = RecordCopy(bench.gateway, store, settings.trading, venue.time)
    bench.gateway.hear(messages.PriceSeen("BTCUSDT", units("90000"), venue.now()))
    try:
        await bench.gateway.ask(messages.Place(new_order("a-1", quantity=UNIT // 100)))
        await until(lambda: state.ledger.positions == {"BTCUSDT": UNIT // 100})
        running.set_clock(AFTERNOON)
        await until(lambda: state.ledger.funding != 0)
        await bench.gateway.ask(messages.Close("BTCUSDT", "c-1", "enough"))
        await until(lambda: not state.closes and not state.ledger.positions)
        await copy.copy()
    finally:
        await bench.stop()


def compared(
    running: ExchangeHandle, redis_url: str, bucket: S3Bucket, path: Path
) -> DayReconciliation:
    settings = settings_at(running, redis_url).model_copy(update={"s3": bucket.settings()})
    store = ObjectStore(settings.s3)
    asyncio.run(trade(running, settings, store, path / "journal.sqlite"))
    running.set_clock(MORNING)
    return reconcile_day(settings, store, DAY, MORNING)


def test_gateways_day_has_no_difference(
    running: ExchangeHandle, redis_url: str, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    """Fills and their fees come by the stream, funding by the income, and the comparison by neither."""
    result = compared(running, redis_url, s3_bucket, tmp_path)
    assert result.differences == []
    assert (result.fills, result.payments) == (2, 1)
    assert result.finding().passed


def test_fee_in_another_asset_differs() -> None:
    """The ledger books a fee in BNB as 0, so its result is too good."""
    held = DayFill("buy", UNIT, UNIT, 0)
    paid = DayFill("buy", UNIT, UNIT, 0, "0.001 BNB")
    key = ("BTCUSDT", 1)
    [found] = differences(AccountDay({key: held}, {}), AccountDay({key: paid}, {}))
    assert (found.what, found.ledger, found.exchange) == ("fee", "0", "0.001 BNB")
