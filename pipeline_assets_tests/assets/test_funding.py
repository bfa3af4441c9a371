"""The assets of funding rates in Dagster: partitions, metadata and the check. Runs themselves are tested in
collection/test_funding.py.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline_assets_tests.fixtures.funding import (
    alter_funding,
    reported,
    run_funding,
    stored,
    verdict,
)
from pipeline_assets_tests.fixtures.platform import SYMBOLS

ETH = SYMBOLS[1]
TODAY = "2026-11-20"


def test_missing_rate_fails_its_day(minutes) -> None:
    """A missing rate is a warning on its day alone, and is named in the metadata."""
    alter_funding(minutes.exchange, missing={ETH: ["2026-11-18T16:00:00Z"]})
    result = run_funding(minutes, "funding_backfill", "2026-11-17", "2026-11-19")
    passed, description, severity = verdict(result)
    assert (passed, severity) == (False, "WARN")
    named = f"1 funding rates of 1 symbols are missing, the first of {ETH} at 2026-11-18 16:00"
    assert named in description
    days = {
        each.partition: each.passed
        for each in result.get_asset_check_evaluations()
        if each.partition
    }
    assert days == {"2026-11-17": True, "2026-11-18": False, "2026-11-19": True}
    reported = reported(result)
    assert reported["missing rates"] == 1
    assert [row.data for row in reported["missing"].records] == [
        {"symbol": ETH, "funding time": "2026-11-18 16:00:00 UTC"}
    ]


def test_ingest_job_fills_lake_and_table(platform) -> None:
    """The hourly job stores and loads; a symbol that fails is an error of the check, not of the run."""
    platform.exchange.set_clock(datetime(2026, 11, 20, 12, 5, tzinfo=UTC))
    platform.exchange.faults(symbols={ETH: {"cut_json": 1}})
    quick = platform.with_settings(binance={"retries": 0})
    result = run_funding(quick, "funding", TODAY, table=True)
    passed, description, severity = verdict(result)
    assert (passed, severity) == (False, "ERROR")
    assert description.startswith(
        "1 symbols could not be fetched, the first: ETHUSDT funding rates"
    )
    rows = sum(len(stored(platform, symbol)) for symbol in SYMBOLS)
    assert reported(result, "funding_table")["rows inserted"] == rows > 0
    platform.exchange.faults()
    result = run_funding(platform, "funding", TODAY, table=True)
    assert verdict(result)[0]
    assert reported(result, "funding_table")["objects"] == 1
