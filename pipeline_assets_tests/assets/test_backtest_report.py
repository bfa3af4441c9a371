"""The asset `backtest_report`: its object, its metadata, and the sensor that requests it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterRunStatus,
    RunRequest,
    SkipReason,
    build_sensor_context,
)
from dagster._core.test_utils import create_run_for_test

from pipeline_assets.collection.run_names import BACKTEST_JOB, tagged_days
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.research.report_requests import next_report
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings, StrategySettings
from pipeline_assets_tests.fixtures.damage import encoded_day, store_damaged
from pipeline_assets_tests.fixtures.platform import Platform

pytestmark = pytest.mark.xdist_group("compiled")

DAYS = [datetime(2026, 11, number, tzinfo=UTC) for number in (12, 13, 14)]
STRATEGIES = (
    StrategySettings.model_validate({"name": "macd_cross", "fast": 5, "slow": 10}),
    StrategySettings.model_validate({"name": "rsi_reversal"}),
)


@pytest.fixture
def researched(minutes: Platform) -> Platform:
    """Three finalized days of two symbols; of the third configured symbol nothing is stored."""
    made = minutes.with_settings(strategies=STRATEGIES)
    store = ObjectStore(made.settings.s3)
    for day in DAYS:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            body = encoded_day(symbol, day.date())
            key = object_key(Interval.ONE_MINUTE, symbol, day)
            store_damaged(made.bucket, key, body, body)
        marks = {symbol: FinalizedDay("etag") for symbol in ("BTCUSDT", "ETHUSDT")}
        mark_finalized(store, Interval.ONE_MINUTE, day.date(), marks)
    return made


def test_report_is_stored_with_figures(researched: Platform) -> None:
    """The report covers the finalized days; a repeated run stores the same bytes."""
    ended = researched.materialize("backtest_report", "macd_cross")
    [event] = ended.asset_materializations_for_node("backtest_report")
    metadata = event.metadata
    assert metadata["span"].value == "2026-11-12 00:00 to 2026-11-15 00:00 UTC"
    assert metadata["trades"].value > 10
    assert str(metadata["equity and drawdown"].value).startswith(
        "![equity and drawdown](data:image/png"
    )
    figures = {row.data["figure"]: row.data["value"] for row in metadata["figures"].value.records}
    assert {"before costs", "slippage", "fees", "funding", "net", "Sharpe"} <= figures.keys()
    [(key, page)] = researched.objects("reports/").items()
    assert key == "reports/backtest/macd_cross.html"
    assert str(metadata["data (SHA-256)"].value).encode() in page
    researched.materialize("backtest_report", "macd_cross")
    assert researched.objects("reports/") == {key: page}


def test_settings_choose_the_days(researched: Platform) -> None:
    """The setting report_days counts back from the newest finalized day."""
    shorter = researched.with_settings(backtest={"report_days": 1})
    ended = shorter.materialize("backtest_report", "rsi_reversal")
    [event] = ended.asset_materializations_for_node("backtest_report")
    assert event.metadata["span"].value == "2026-11-14 00:00 to 2026-11-15 00:00 UTC"


def test_empty_lake_says_what_to_do(minutes: Platform) -> None:
    """Without a finalized day the run fails and names the command that fetches some."""
    with pytest.raises(Exception, match="No day of 1m candles is finalized yet"):
        minutes.materialize("backtest_report", "macd_cross")


def evaluate(platform: Platform, cursor: str | None) -> tuple[RunRequest | SkipReason, str | None]:
    """One evaluation of the sensor: its answer, and the cursor after it."""
    definitions = build_definitions(platform.settings)
    store = ObjectStore(platform.settings.s3)
    with build_sensor_context(
        instance=platform.instance,
        cursor=cursor,
        definitions=definitions,
        resources={"store": store, "settings": platform.settings},
    ) as context:
        answer = definitions.resolve_sensor_def("backtest_reports")(context)
        assert isinstance(answer, RunRequest | SkipReason)
        return answer, context.cursor


def test_sensor_requests_one_by_one(researched: Platform) -> None:
    """Each strategy's report is requested once a day, none while one is being made."""
    put, bucket = researched.bucket.client.put_object, researched.bucket.name
    answer, cursor = evaluate(researched, None)
    assert isinstance(answer, SkipReason)
    put(Bucket=bucket, Key="gaps/20261114.parquet", Body=b"")
    for name in ("macd_cross", "rsi_reversal"):
        answer, cursor = evaluate(researched, cursor)
        assert isinstance(answer, RunRequest)
        assert answer.partition_key == name
    answer, cursor = evaluate(researched, cursor)
    assert isinstance(answer, SkipReason)
    put(Bucket=bucket, Key="gaps/20261115.parquet", Body=b"")
    started = DagsterRunStatus.STARTED
    run = create_run_for_test(researched.instance, job_name=BACKTEST_JOB, status=started)
    answer, cursor = evaluate(researched, cursor)
    assert isinstance(answer, SkipReason)
    assert answer.skip_message == "A report is being made."
    researched.instance.delete_run(run.run_id)
    answer, cursor = evaluate(researched, cursor)
    assert isinstance(answer, RunRequest)
    assert str(answer.run_key).startswith("macd_cross 2026-11-15 1-")


def test_changed_strategy_is_due_again() -> None:
    """Another parameter makes another version, whose report is due; a damaged cursor starts anew."""
    day, strategies = date(2026, 11, 14), configured_strategies(STRATEGIES)
    first = next_report(None, strategies, day)
    assert first is not None
    second = next_report(first.cursor, strategies, day)
    assert second is not None
    assert next_report(second.cursor, strategies, day) is None
    changed: Any = configured_strategies(
        [STRATEGIES[0], StrategySettings(name="rsi_reversal", period=9)]
    )
    due = next_report(second.cursor, changed, day)
    assert due is not None
    assert due.strategy == "rsi_reversal"
    again = next_report("no JSON", strategies, day)
    assert again == first
    assert next_report(second.cursor, strategies, day + timedelta(days=1)) is not None


def test_partition_of_strategy_has_no_days() -> None:
    """A run over a strategy's partition is not shown among runs over days."""
    assert tagged_days({"dagster/partition": "macd_cross"}) is None
    assert tagged_days({"dagster/partition": "2026-11-14"}) == (date(2026, 11, 14),) * 2


def test_lineage_ends_in_the_report() -> None:
    """The report depends on the candles and on the funding rates."""
    graph = build_definitions(Settings()).resolve_asset_graph()
    parents = graph.get(AssetKey("backtest_report")).parent_keys
    assert {key.path[0] for key in parents} == {"candle_objects_1m", "funding_rates"}
