"""Trading records into the warehouse: tables that equal the lake's objects, and no statement without news.

The tables are read with a plain session of the connector.
"""

import signal
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from snowflake.connector.cursor import SnowflakeCursor

from pipeline_assets.collection.record_load import (
    RecordLoad,
    load_records,
    scheduled_load,
    update_views,
)
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.candidate_objects import (
    finalize_candidates,
    read_stored,
    store_candidates,
)
from pipeline_assets.resources.loaded_objects import read_loaded
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.record_tables import RecordTable
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.trading.record_objects import Kind, read_records
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer, running_snowflake_server
from pipeline_assets_tests.fixtures.trading_records import (
    DAY,
    NOON,
    SCRIPT,
    a_decision,
    a_fill,
    an_intent,
    an_order,
    put,
)
from pipeline_assets_tests.market.frames import candidates_frame

YESTERDAY = DAY - timedelta(days=1)
CHINESE = "币安人生USDT"
KINDS = {
    Kind.DECISIONS: (record_tables.DECISIONS, a_decision),
    Kind.INTENTS: (record_tables.INTENTS, an_intent),
    Kind.ORDERS: (record_tables.ORDERS, an_order),
    Kind.FILLS: (record_tables.FILLS, a_fill),
}
Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


@pytest.fixture
def query(snowflake_server: SnowflakeServer, warehouse_settings: SimpleNamespace) -> Query:
    """Read rows by the names of their columns in lower case; times in UTC."""

    def read(text: str) -> list[dict[str, Any]]:
        with snowflake_server.connect(warehouse_settings.snowflake) as connection:
            cursor = connection.cursor()
            cursor.execute(text)
            names = [column.name.lower() for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [
            {
                name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
                for name, value in row.items()
            }
            for row in rows
        ]

    return read


@pytest.fixture
def load(store: ObjectStore, warehouse: Warehouse) -> Callable[..., RecordLoad]:
    """Load as a scheduled run does, or the given days."""

    def run(table: RecordTable, days: list[date] | None = None, **options: Any) -> RecordLoad:
        return load_records(store, warehouse, table, days, "run", **options)

    return run


def test_tables_equal_the_lake(
    store: ObjectStore, load: Callable[..., RecordLoad], query: Query
) -> None:
    """Every value of two days is in the tables: exact amounts, nulls, and a script as text."""
    for kind, (table, made) in KINDS.items():
        put(store, kind, made(1), made(2, **({} if kind is Kind.INTENTS else {"symbol": CHINESE})))
        put(store, kind, made(3), day=YESTERDAY)
        found = load(table)
        assert (found.values["objects"], found.values["rows inserted"]) == (2, 3)
        assert found.days == {DAY: 1, YESTERDAY: 1}
        expected = pl.concat(read_records(store, kind, day) for day in (YESTERDAY, DAY))
        columns = ", ".join(f'"{name.upper()}"' for name in expected.columns)
        rows = query(f"select {columns} from {table.name} order by {', '.join(table.key)}")
        assert rows == expected.sort(*(name.lower() for name in table.key)).to_dicts()


def test_changed_order_is_updated_once(
    store: ObjectStore, load: Callable[..., RecordLoad], query: Query
) -> None:
    """An order of yesterday that fills today changes its row; a repeat changes none."""
    put(store, Kind.ORDERS, an_order(1, status="accepted"), an_order(2), day=YESTERDAY)
    load(record_tables.ORDERS)
    changed = an_order(1, status="filled", filled=Decimal("2.5"), sequence=9)
    put(store, Kind.ORDERS, changed, day=YESTERDAY)
    found = load(record_tables.ORDERS)
    assert (found.values["rows inserted"], found.values["rows updated"]) == (0, 1)
    assert found.days == {YESTERDAY: 1}
    [row] = query("select STATUS, FILLED from ORDERS where CLIENT_ID = 'order-1'")
    assert row == {"status": "filled", "filled": Decimal("2.5")}
    again = load(record_tables.ORDERS, [YESTERDAY], all_again=True)
    assert (again.values["rows inserted"], again.values["rows updated"]) == (0, 0)


def test_nothing_new_runs_no_statement(
    store: ObjectStore,
    load: Callable[..., RecordLoad],
    snowflake_server: SnowflakeServer,
) -> None:
    """One COPY and one MERGE load many days; without news the warehouse sleeps on."""
    for number in range(5):
        put(store, Kind.FILLS, a_fill(number), day=DAY - timedelta(days=number))
    before = snowflake_server.statements()
    load(record_tables.FILLS)
    ran = snowflake_server.statements() - before
    assert (ran["COPY INTO"], ran["MERGE INTO"]) == (1, 1)
    before = snowflake_server.statements()
    assert load(record_tables.FILLS) == RecordLoad({"objects": 0}, {})
    assert load(record_tables.FILLS, [DAY]) == RecordLoad({"objects": 0}, {})
    assert snowflake_server.statements() == before
    put(store, Kind.FILLS, a_fill(9), day=YESTERDAY)
    assert load(record_tables.FILLS, [DAY]).days == {}
    assert load(record_tables.FILLS, [YESTERDAY]).days == {YESTERDAY: 1}


@pytest.mark.parametrize("statement", ["drop table", "truncate table"])
def test_dropped_table_is_filled_again(
    load: Callable[..., RecordLoad], store: ObjectStore, query: Query, statement: str
) -> None:
    """The next load with news fills a table that somebody dropped, whatever days it was asked for."""
    put(store, Kind.FILLS, a_fill(1))
    load(record_tables.FILLS)
    query(f"{statement} FILLS")
    put(store, Kind.FILLS, a_fill(2), day=YESTERDAY)
    assert load(record_tables.FILLS, [YESTERDAY]).days == {YESTERDAY: 1, DAY: 1}
    assert query("select TRADE_ID from FILLS order by 1") == [{"trade_id": 1}, {"trade_id": 2}]
    assert load(record_tables.FILLS) == RecordLoad({"objects": 0}, {})


def test_load_crashed_before_its_note(
    store: ObjectStore,
    load: Callable[..., RecordLoad],
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    query: Query,
) -> None:
    """A run that dies after the MERGE loads the same objects again, and changes no row."""
    put(store, Kind.FILLS, a_fill(1))
    name = "pipeline_assets.collection.record_load.write_loaded"
    with monkeypatch.context() as crash:
        crash.setattr(name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(record_tables.FILLS)
    found = load(record_tables.FILLS)
    assert (found.values["objects"], found.values["rows inserted"]) == (1, 0)
    assert query("select count(*) as n from FILLS") == [{"n": 1}]
    assert list(read_loaded(store, record_tables.FILLS, warehouse.target).objects) == [
        f"fills/{DAY:%Y%m%d}.parquet"
    ]
    # A table elsewhere has loaded nothing.
    assert not read_loaded(store, record_tables.FILLS, "another account").objects


@pytest.mark.matrix
@pytest.mark.parametrize("statement", ["CREATE OR REPLACE", "COPY", "MERGE", "DROP"])
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_warehouse_ends_during_load(
    store: ObjectStore,
    s3_bucket: S3Bucket,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    fault: signal.Signals,
) -> None:
    """A warehouse that dies or freezes at a statement fails the load, and a repeat stores each row once."""
    put(store, Kind.FILLS, a_fill(1))
    with running_snowflake_server(tmp_path, s3_server.endpoint) as server:
        settings = server.settings(database="FAULTS", timeout_seconds=4)
        warehouse = Warehouse(settings, s3_bucket.settings())
        load_records(store, warehouse, record_tables.FILLS, None, "before")
        put(store, Kind.FILLS, a_fill(2))
        execute = SnowflakeCursor.execute

        def faulty(cursor: SnowflakeCursor, command: str, *rest: Any, **named: Any) -> Any:
            if command.lstrip().startswith(statement):
                assert server.process is not None
                server.process.send_signal(fault)
            return execute(cursor, command, *rest, **named)

        with monkeypatch.context() as broken:
            broken.setattr(SnowflakeCursor, "execute", faulty)
            with pytest.raises(WarehouseError):
                load_records(store, warehouse, record_tables.FILLS, None, "run")
        if fault is signal.SIGKILL:
            server.kill()
            server.start()
        else:
            assert server.process is not None
            server.process.send_signal(signal.SIGCONT)
        settings = server.settings(database="FAULTS")
        warehouse = Warehouse(settings, s3_bucket.settings())
        load_records(store, warehouse, record_tables.FILLS, None, "run")
        with server.connect(settings) as connection:
            rows = connection.cursor().execute("select TRADE_ID from FILLS order by 1").fetchall()
        assert rows == [(1,), (2,)]
        assert warehouse.landing_tables(datetime.now(UTC) + timedelta(days=2)) == []


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_published_candidate_stays_published(
    store: ObjectStore, load: Callable[..., RecordLoad], query: Query
) -> None:
    """A candidate evaluated again and too late counts as published, before and after finalizing."""
    frame = candidates_frame(candidates(3, 2)).with_columns(strategy=pl.lit(SCRIPT))
    store_candidates(store, frame[:4])
    load(record_tables.CANDIDATES)
    later = pl.col("created_at") + timedelta(hours=1)
    store_candidates(store, frame.with_columns(created_at=later), late=True)
    assert load(record_tables.CANDIDATES).values["rows updated"] == 0
    day = MIDNIGHT.date()
    text = "select * from CANDIDATES order by OPEN_TIME, STRATEGY, SYMBOL, ID"
    assert query(text) == read_stored(store, day).to_dicts()
    finalize_candidates(store, day)
    found = load(record_tables.CANDIDATES)
    assert (found.values["objects"], found.values["rows updated"]) == (1, 0)
    assert query(text) == read_stored(store, day).to_dicts()


def test_object_gone_since_listing(
    store: ObjectStore,
    load: Callable[..., RecordLoad],
    monkeypatch: pytest.MonkeyPatch,
    query: Query,
) -> None:
    """A finalize run that removes objects between listing and COPY ends no load."""
    [gone] = store_candidates(store, candidates_frame(candidates(2)))
    listed = list(store.objects("candidates/1m/"))
    finalize_candidates(store, MIDNIGHT.date())
    assert store.get(gone) is None
    stale = iter([listed])
    fresh = ObjectStore.objects

    def objects(own: ObjectStore, prefix: str, start_after: str | None = None) -> Any:
        return iter(next(stale, None) or fresh(own, prefix, start_after))

    monkeypatch.setattr(ObjectStore, "objects", objects)
    assert load(record_tables.CANDIDATES).values["objects"] == 1
    assert query("select count(*) as n from CANDIDATES") == [{"n": 2}]


def test_damaged_object_keeps_none_out(
    store: ObjectStore, load: Callable[..., RecordLoad], warehouse: Warehouse, query: Query
) -> None:
    """An object that COPY cannot read fails the load by name, after the others, until it is made again."""
    put(store, Kind.FILLS, a_fill(1))
    key = f"fills/{YESTERDAY:%Y%m%d}.parquet"
    put(store, Kind.FILLS, a_fill(2), day=YESTERDAY)
    store.put(key, (store.get(key) or b"")[:-9])
    for _ in range(2):
        with pytest.raises(WarehouseError, match=f"1 damaged object.*{key} is damaged"):
            load(record_tables.FILLS)
        assert list(read_loaded(store, record_tables.FILLS, warehouse.target).objects) == [
            f"fills/{DAY:%Y%m%d}.parquet"
        ]
    assert query("select TRADE_ID from FILLS") == [{"trade_id": 1}]
    store.delete([key])
    put(store, Kind.FILLS, a_fill(2), day=YESTERDAY)
    assert load(record_tables.FILLS).days == {YESTERDAY: 1}


def test_quarter_hour_load_reads_no_clock() -> None:
    """Where every scheduled load is due, the exchange is not asked for its time."""

    def clock() -> datetime:
        raise AssertionError

    assert scheduled_load(clock, 15) is None


def test_load_waits_as_candles_do(store: ObjectStore, load: Callable[..., RecordLoad]) -> None:
    """With PIPELINE_INGEST__LOAD_MINUTES=60 the load of an hour is made once."""
    due = scheduled_load(lambda: NOON + timedelta(minutes=30), 60)
    assert due == NOON
    put(store, Kind.FILLS, a_fill(1))
    assert load(record_tables.FILLS, due=due).values["objects"] == 1
    put(store, Kind.FILLS, a_fill(2))
    waits = load(record_tables.FILLS, due=scheduled_load(lambda: NOON + timedelta(minutes=45), 60))
    assert waits.values == {"objects": 0, "loaded until": "2026-11-20 12:00:00 UTC"}
    later = scheduled_load(lambda: NOON + timedelta(hours=1), 60)
    assert load(record_tables.FILLS, due=later).values["objects"] == 1


def test_views_show_linked_records(
    store: ObjectStore, warehouse: Warehouse, load: Callable[..., RecordLoad], query: Query
) -> None:
    """Each view reads its table, joined with what it came from; made once for a release."""
    assert update_views(store, warehouse)
    assert not update_views(store, warehouse)
    for view in record_tables.VIEWS.values():
        assert query(f"select * from {view}") == []
    put(store, Kind.DECISIONS, a_decision(1), a_decision(2, verdict="decline", reason="stale"))
    put(store, Kind.INTENTS, an_intent(1))
    put(store, Kind.ORDERS, an_order(1))
    put(store, Kind.FILLS, a_fill(1, quantity=Decimal(2), price=Decimal(10), fee=Decimal("0.5")))
    sold = {"side": "sell", "quantity": Decimal(1), "price": Decimal(40), "fee": Decimal(1)}
    put(store, Kind.FILLS, a_fill(2, client_id="order-1", **sold))
    for table, _ in KINDS.values():
        load(table)
    decisions = query(
        "select STRATEGY, VERDICT, DECLINE_REASON, OUTCOME, ORDER_ID from V_DECISIONS order by 2"
    )
    assert [tuple(each.values()) for each in decisions] == [
        (SCRIPT, "accept", None, "sent", "order-1"),
        (SCRIPT, "decline", "stale", None, None),
    ]
    [order] = query("select CANDIDATE_ID, STRATEGY, FILL_PRICE, FEES from V_ORDERS")
    assert order == {
        "candidate_id": "candidate-1",
        "strategy": SCRIPT,
        "fill_price": 20.0,
        "fees": Decimal("1.5"),
    }
    flows = query("select SIGNED_QUANTITY, VALUE, CASH_FLOW from V_FILLS order by TRADE_ID")
    assert [tuple(map(float, each.values())) for each in flows] == [
        (2.0, 20.0, -20.5),
        (-1.0, 40.0, 39.0),
    ]
