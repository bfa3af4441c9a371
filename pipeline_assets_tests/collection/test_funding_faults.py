"""Funding rates of an exchange that refuses requests, of symbols that are gone, and of very many symbols."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, INGEST_PATIENCE
from pipeline_assets.resources.exchange_funding import FundingClient
from pipeline_assets_tests.assets.test_failures import PassingTime
from pipeline_assets_tests.fixtures.exchange import START, start_exchange
from pipeline_assets_tests.fixtures.funding import call, collect, served, stored
from pipeline_assets_tests.fixtures.platform import SYMBOLS, platform_without_snowflake

BACKFILL, INGEST = RunKind.BACKFILL, RunKind.INGEST
MANY = 900


class PassingFundingTime(PassingTime):
    """The same for the client of funding rates."""

    def funding_client(self, priority, *, patient, **_):
        patience = BACKFILL_PATIENCE if patient else INGEST_PATIENCE
        times = {"patience": patience, "sleep": self.sleep, "monotonic": lambda: self.waited}
        return FundingClient(self._settings, priority, budget=self.budget, **times)


def test_refused_backfill_stores_all_rates(tmp_path, s3_bucket, redis_server, redis_url) -> None:
    """Another program at the address spends the limit: HTTP 429 delays the backfill and loses no rate."""
    with (
        start_exchange(clock=f"stepped:{START}", funding_limit=5) as own,
        platform_without_snowflake(tmp_path, own, s3_bucket, redis_url) as platform,
    ):
        exchange = PassingFundingTime(platform)
        report = collect(platform, BACKFILL, "2026-08-20", "2026-11-19", exchange=exchange)
        assert (report.objects, report.plan.failures) == (12, {})
        refused = own.state()["funding"]["refused"]
        assert 0 < refused == own.state()["sent_429"]
        # Five requests in five minutes: twelve months need two waits or more.
        assert 600 <= exchange.waited < 1300
        start, end = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
        own.advance(300)
        expected = {symbol: served(own, symbol, start, end) for symbol in SYMBOLS}
        for symbol in SYMBOLS:
            before = [row for row in stored(platform, symbol) if row[0] * 3600 < end.timestamp()]
            assert before == expected[symbol]


@pytest.mark.parametrize("archive", [True, False])
def test_delisted_symbol_has_all_rates(minutes, archive: bool) -> None:
    """Rates of a symbol that is gone, up to its delivery, from the archive or the exchange alike."""
    gone = "AGIXUSDT"
    chosen = minutes.with_settings(binance={"archive": archive})
    report = collect(chosen, BACKFILL, "2024-06-20", "2024-07-31", symbols=[gone])
    assert all(each.passed for each in report.findings().values())
    assert report.archive_files == (2 if archive else 0)
    start, end = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC)
    expected = served(minutes.exchange, gone, start, end)
    found = stored(minutes, gone)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    info = call(minutes.exchange, "/fapi/v1/exchangeInfo")["symbols"]
    [delivered] = [each["deliveryDate"] // 1000 for each in info if each["symbol"] == gone]
    assert found[-1][0] * 3600 < delivered <= (found[-1][0] + 8) * 3600
    again = collect(chosen, BACKFILL, "2024-06-20", "2024-07-31", symbols=[gone])
    assert (again.objects, again.requests) == (0, 0)


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_hour_of_many_symbols(tmp_path, s3_bucket, redis_server, redis_url) -> None:
    """At a settlement of 900 symbols, a run waits out one limit of five minutes and is not refused."""
    with (
        start_exchange(symbols=MANY, clock="stepped:2026-11-20T16:05:00Z") as own,
        platform_without_snowflake(tmp_path, own, s3_bucket, redis_url, symbols="all") as platform,
    ):
        exchange = PassingFundingTime(platform)
        report = collect(platform, INGEST, "2026-11-20", exchange=exchange)
        assert report.plan.failures == {}
        state = own.state()
        assert (state["sent_429"], state["funding"]["refused"]) == (0, 0)
        assert 0.9 * MANY < len(report.plan.listed) == report.objects
        # A request for each symbol, and one for fundingInfo.
        assert report.requests == report.objects + 1
        assert exchange.waited < 310
        assert collect(platform, INGEST, "2026-11-20", exchange=exchange).requests == 1
