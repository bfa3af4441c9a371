"""Trading records and outcomes in Dagster: partitions, metadata, and jobs as schedulers start them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dagster import AssetKey, ExecuteInProcessResult

from pipeline_assets.lake import scan
from pipeline_assets.research.stored_outcomes import update_outcomes
from pipeline_assets.resources.candidate_objects import store_candidates
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.record_objects import Kind
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.listings import listing
from pipeline_assets_tests.fixtures.platform import SYMBOLS
from pipeline_assets_tests.fixtures.trading_records import DAY, an_order, put
from pipeline_assets_tests.market.frames import candidates_frame

YESTERDAY = DAY - timedelta(days=1)
TABLES = ("candidate_table", "decision_table", "intent_table", "order_table", "fill_table")


def reported(result: ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Return the values that an asset reported."""
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_scheduled_load_reports_other_days(platform) -> None:
    """A run of today that loads yesterday's changed order makes yesterday's partition green too."""
    store = ObjectStore(platform.settings.s3)
    put(store, Kind.ORDERS, an_order(1))
    put(store, Kind.ORDERS, an_order(2), day=YESTERDAY)
    result = platform.run("trading_tables", str(DAY))
    assert reported(result, "order_table")["objects"] == 2
    assert reported(result, "fill_table") == {"objects": 0}
    assert reported(result, "analysis_views") == {"views made": True}
    green = platform.instance.get_materialized_partitions(AssetKey("order_table"))
    assert green == {str(DAY), str(YESTERDAY)}
    before = platform.snowflake.statements()
    again = platform.run("trading_tables", str(DAY))
    assert {reported(again, name)["objects"] for name in TABLES} == {0}
    assert platform.snowflake.statements() == before


def test_outcomes_follow_finalized_minutes(platform) -> None:
    """The outcomes of a day's candidates come from the lake's minutes, and a repeat changes nothing."""
    store, day = ObjectStore(platform.settings.s3), str(MIDNIGHT.date())
    symbol = SYMBOLS[0]
    found = [each.model_copy(update={"symbol": symbol}) for each in candidates(2)]
    store_candidates(store, candidates_frame(found))
    platform.exchange.set_clock(MIDNIGHT + timedelta(hours=1, minutes=1, seconds=30))
    platform.ingest("1m", symbols=[symbol])
    result = platform.run("outcomes", day)
    first, second = platform.rows(
        "select RETURN_15M, RETURN_1H, MISSING_1H, MISSING_4H from CANDIDATE_OUTCOMES order by OPEN_TIME"
    )
    minutes = scan("1m", [symbol], MIDNIGHT, MIDNIGHT + timedelta(hours=2), store=store).collect()
    change = minutes["close"][60] / minutes["open"][1] - 1
    assert (first[1], first[2:], second[1:]) == (change, (0, None), (None, None, None))
    assert first[0] == minutes["close"][15] / minutes["open"][1] - 1
    values = reported(result, "candidate_outcomes")
    assert (values["candidates"], values["known after 15m"], values["known after 1h"]) == (2, 2, 1)
    again = platform.run("outcomes", day)
    assert reported(again, "candidate_outcomes")["object changed"] is False
    assert reported(again, "candidate_outcome_table") == {"objects": 0}


def test_view_names_delisted_symbols(platform) -> None:
    """A horizon that trading did not outlive is shown as delisted, a hole before as minutes missing."""
    store, day = ObjectStore(platform.settings.s3), MIDNIGHT.date()
    symbol = SYMBOLS[0]
    found = [each.model_copy(update={"symbol": symbol}) for each in candidates(1)]
    store_candidates(store, candidates_frame(found))
    ended = MIDNIGHT + timedelta(hours=1)
    note_identities(store, [listing(symbol, delivery_date=ended)], ended)
    update_outcomes(store, day, MIDNIGHT + timedelta(hours=6))
    platform.run("trading_tables", str(day))
    platform.run("outcomes", str(day), without="candidate_outcomes")
    states = platform.rows("select HORIZON_MINUTES, STATE from V_OUTCOMES order by 1")
    assert states == [(15, "minutes missing"), (60, "delisted"), (240, "delisted")]


def test_older_table_gets_new_columns(platform) -> None:
    """A table of outcomes from before the column `DELISTED_AT` gets it by views and by loads."""
    store, day = ObjectStore(platform.settings.s3), MIDNIGHT.date()

    def load(rows: int) -> None:
        store_candidates(store, candidates_frame(candidates(rows)))
        update_outcomes(store, day, MIDNIGHT + timedelta(hours=6))
        platform.run("outcomes", str(day), without="candidate_outcomes")

    load(1)
    platform.rows("alter table CANDIDATE_OUTCOMES drop column DELISTED_AT")
    platform.run("trading_tables", str(day))
    assert platform.rows("select count(*) from V_OUTCOMES") == [(3,)]
    platform.rows("alter table CANDIDATE_OUTCOMES drop column DELISTED_AT")
    load(2)
    assert platform.rows("select count(*) from CANDIDATE_OUTCOMES where DELISTED_AT is null") == [
        (2,)
    ]
