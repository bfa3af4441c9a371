"""The warehouse against the embedded Snowflake server and a real S3 server."""

import io
import logging
import math
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import sqlglot
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from snowflake.connector.errors import OperationalError

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources import warehouse as module
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.warehouse_statements import identifier, landing_name, literal
from pipeline_assets.settings import S3Settings, SnowflakeSettings
from pipeline_assets_tests.fixtures.snowflake import (
    PASSWORD,
    Lake,
    SnowflakeServer,
    day_of_candles,
)

DAY = datetime(2026, 10, 1, tzinfo=UTC)
QUARTER = Interval.FIFTEEN_MINUTES
SQL_FILES = sorted(
    item.name
    for item in files("pipeline_assets.resources").joinpath("warehouse_sql").iterdir()
    if item.name.endswith(".sql")
)


class Noon(datetime):
    """A clock that does not come to midnight between two loads of a test."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2026, 11, 20, 12, tzinfo=tz)


@pytest.fixture
def one_day(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Landing tables of one UTC day, which is in their names; returns a time after that day."""
    monkeypatch.setattr(module, "datetime", Noon)
    return Noon.now(UTC) + timedelta(days=2)


@pytest.fixture
def stored(snowflake_server: SnowflakeServer, warehouse_settings: SimpleNamespace) -> Any:
    """Reads a table's rows with a plain connector session, ordered by symbol and open time."""

    def read(table: str = "CANDLES_15M") -> list[dict[str, Any]]:
        with snowflake_server.connect(warehouse_settings.snowflake) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT * FROM {table} ORDER BY SYMBOL, OPEN_TIME")
            names = [column.name.lower() for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for row in rows:
            for name in ("open_time", "close_time"):
                assert row[name].tzinfo is None
                row[name] = row[name].replace(tzinfo=UTC)
        return rows

    return read


def put_day(lake: Lake, symbol: str, **changes: Any) -> tuple[str, list[dict[str, Any]]]:
    candles = day_of_candles(symbol, DAY, **changes)
    return lake.put(candles, f"15m/{symbol}/20261001_0000.parquet"), candles


def by_key(candles: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(candles, key=lambda candle: (candle["symbol"], candle["open_time"]))


def test_load_stores_values_bit_for_bit(warehouse: Warehouse, lake: Lake, stored: Any) -> None:
    """Load stores every value bit for bit."""
    first_key, first = put_day(lake, "BTCUSDT")
    second_key, second = put_day(lake, "币安人生USDT")

    result = warehouse.load(QUARTER, [first_key, second_key], "run-1")

    assert (result.rows_loaded, result.rows_inserted, result.rows_updated) == (192, 192, 0)
    assert result.files == 2
    assert stored() == by_key(first + second)


def test_each_interval_has_its_own_table(warehouse: Warehouse, lake: Lake, stored: Any) -> None:
    hours = day_of_candles("BTCUSDT", DAY, minutes=60)
    warehouse.load(Interval.ONE_HOUR, [lake.put(hours, "1h/BTCUSDT/20261001_0000.parquet")], "run")
    key, quarters = put_day(lake, "BTCUSDT")
    warehouse.load(QUARTER, [key], "run")

    assert stored("CANDLES_1H") == hours
    assert stored("CANDLES_15M") == quarters


def test_minutes_have_no_table(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match=r"1m candles have no table.*15m and 1h"):
        warehouse.load(Interval.ONE_MINUTE, ["1m/BTCUSDT/x.parquet"], "run")


@pytest.mark.parametrize("load_id", ["run-1", "run-2"], ids=["same run", "another run"])
def test_repeat_changes_no_row(warehouse: Warehouse, lake: Lake, stored: Any, load_id: str) -> None:
    key, candles = put_day(lake, "BTCUSDT")
    warehouse.load(QUARTER, [key], "run-1")

    repeat = warehouse.load(QUARTER, [key, key], load_id)

    assert (repeat.rows_loaded, repeat.rows_inserted, repeat.rows_updated) == (96, 0, 0)
    assert stored() == candles


def test_changed_object_updates_changed_row(warehouse: Warehouse, lake: Lake, stored: Any) -> None:
    """A changed object updates the changed row alone."""
    key, candles = put_day(lake, "BTCUSDT", count=50)
    warehouse.load(QUARTER, [key], "run-1")
    changed = day_of_candles("BTCUSDT", DAY, count=51)
    changed[7]["volume"] = math.nextafter(candles[7]["volume"], math.inf)
    lake.put(changed, key)

    result = warehouse.load(QUARTER, [key], "run-2")

    assert (result.rows_inserted, result.rows_updated) == (1, 1)
    assert stored() == changed


def test_overlap_keeps_most_complete_candle(warehouse: Warehouse, lake: Lake, stored: Any) -> None:
    """Overlapping objects leave the most complete candle."""
    whole_key, whole = put_day(lake, "BTCUSDT")
    partial = day_of_candles("BTCUSDT", DAY, count=40)
    for candle in partial:
        candle["trades"] -= 1_000
        candle["high"] = 0.5
    partial_key = lake.put(partial, "15m/BTCUSDT/20261001_0015.parquet")

    result = warehouse.load(QUARTER, [partial_key, whole_key, partial_key], "run")

    assert (result.rows_loaded, result.rows_inserted, result.files) == (136, 96, 2)
    assert stored() == whole


def test_nothing_to_load_asks_nothing(warehouse_settings: SimpleNamespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = warehouse_settings.snowflake.model_copy(update={"port": port})

    assert Warehouse(down, warehouse_settings.s3).load(QUARTER, [], "run").files == 0


@pytest.mark.parametrize("done", range(5), ids=["none", "landing", "copy", "merge", "drop"])
def test_load_resumes_after_any_crash(
    warehouse: Warehouse,
    warehouse_settings: SimpleNamespace,
    snowflake_server: SnowflakeServer,
    lake: Lake,
    stored: Any,
    one_day: datetime,
    done: int,
) -> None:
    """A load succeeds after a crash between any two statements."""
    key, candles = put_day(lake, "BTCUSDT", count=10)
    warehouse.make_tables(QUARTER)
    parts = warehouse.sql.load(QUARTER, [key], "run-1")
    with snowflake_server.connect(warehouse_settings.snowflake) as connection:
        for text in [parts.landing, *parts.copies, parts.merge, parts.drop][:done]:
            connection.cursor().execute(text)

    result = warehouse.load(QUARTER, [key], "run-1")

    assert result.rows_loaded == 10
    assert stored() == candles
    assert warehouse.landing_tables(one_day) == []


def test_failed_copy_names_the_file(warehouse: Warehouse, lake: Lake, stored: Any) -> None:
    """A failed COPY changes nothing and names the file."""
    key, candles = put_day(lake, "BTCUSDT")
    broken = "15m/ETHUSDT/20261001_0000.parquet"
    lake.client.put_object(Bucket=lake.bucket, Key=f"ohlcv/{broken}", Body=b"PAR1 not so PAR1")

    with pytest.raises(WarehouseError, match=re.escape(broken)):
        warehouse.load(QUARTER, [key, broken], "run")

    assert stored() == []
    lake.put(day_of_candles("ETHUSDT", DAY), broken)
    warehouse.load(QUARTER, [key, broken], "run")
    assert stored() == candles + day_of_candles("ETHUSDT", DAY)


def test_an_absent_object_is_named(warehouse: Warehouse, lake: Lake) -> None:
    key, _ = put_day(lake, "BTCUSDT")
    with pytest.raises(
        WarehouseError, match=r"15m/币安人生USDT/absent\.parquet.*materialize its day"
    ):
        warehouse.load(QUARTER, [key, "15m/币安人生USDT/absent.parquet"], "run")


def test_an_absent_bucket_is_named(warehouse_settings: SimpleNamespace) -> None:
    elsewhere = Warehouse(warehouse_settings.snowflake, S3Settings(bucket="no-such-bucket"))
    with pytest.raises(
        WarehouseError, match=r"bucket no-such-bucket .*PIPELINE_S3__BUCKET. exists"
    ):
        elsewhere.load(QUARTER, ["15m/BTCUSDT/x.parquet"], "run")


@pytest.mark.parametrize("changes", [{"password": SecretStr("wr0ng")}, {"user": "nobody"}])
def test_wrong_credentials_name_settings_only(
    warehouse_settings: SimpleNamespace, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    """The error for wrong credentials names the settings and no secret."""
    caplog.set_level(logging.DEBUG)
    settings = warehouse_settings.snowflake.model_copy(update=changes)

    with pytest.raises(WarehouseError) as caught:
        Warehouse(settings, warehouse_settings.s3).table_summary(QUARTER)

    message = str(caught.value)
    assert "Incorrect username or password was specified" in message
    assert "PIPELINE_SNOWFLAKE__USER" in message
    for secret in ("wr0ng", PASSWORD):
        assert secret not in message + caplog.text + repr(settings)


def test_down_server_is_named(warehouse_settings: SimpleNamespace) -> None:
    """The error for a server that is down names the server."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = warehouse_settings.snowflake.model_copy(update={"port": port})
    with pytest.raises(WarehouseError, match=f"at 127.0.0.1:{port} could not .*SNOWFLAKE__PORT"):
        Warehouse(down, warehouse_settings.s3).table_summary(QUARTER)


@pytest.mark.parametrize("content", [None, b"not a key"])
def test_unusable_private_key_is_named(
    warehouse_settings: SimpleNamespace, tmp_path: Path, content: bytes | None
) -> None:
    """The error for a private key that cannot be used names the key's setting."""
    key = tmp_path / "loader.p8"
    if content is not None:
        key.write_bytes(content)
    settings = warehouse_settings.snowflake.model_copy(update={"private_key_path": key})
    with pytest.raises(WarehouseError, match=r"loader\.p8 cannot be used as private key"):
        Warehouse(settings, warehouse_settings.s3).table_summary(QUARTER)


def test_private_key_replaces_the_password(
    warehouse_settings: SimpleNamespace, tmp_path: Path
) -> None:
    """A private key is used instead of the password.

    The embedded server knows passwords only, so a login by key is the one that it refuses.
    """
    key = tmp_path / "loader.p8"
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    settings = warehouse_settings.snowflake.model_copy(update={"private_key_path": key})
    with pytest.raises(WarehouseError, match="PIPELINE_SNOWFLAKE__PRIVATE_KEY_PATH"):
        Warehouse(settings, warehouse_settings.s3).table_summary(QUARTER)


def test_summary_counts_rows_and_newest_time(warehouse: Warehouse, lake: Lake) -> None:
    """The summary counts rows and names the newest open time."""
    assert warehouse.table_summary(QUARTER) == {}
    keys = [put_day(lake, "BTCUSDT")[0], put_day(lake, "币安人生USDT", count=3)[0]]
    warehouse.load(QUARTER, keys, "run")

    summary = warehouse.table_summary(QUARTER)

    assert {symbol: seen.rows for symbol, seen in summary.items()} == {
        "BTCUSDT": 96,
        "币安人生USDT": 3,
    }
    assert summary["币安人生USDT"].newest_open_time == datetime(2026, 10, 1, 0, 30, tzinfo=UTC)


def test_housekeeping_drops_old_landing_tables(
    warehouse: Warehouse,
    warehouse_settings: SimpleNamespace,
    snowflake_server: SnowflakeServer,
) -> None:
    """Housekeeping drops landing tables of days past and no others."""
    assert warehouse.landing_tables(DAY) == []
    warehouse.make_tables(QUARTER)
    old = landing_name(QUARTER, "dead", date(2026, 9, 29))
    new = landing_name(QUARTER, "alive", date(2026, 9, 30))
    with snowflake_server.connect(warehouse_settings.snowflake) as connection:
        for name in (old, new, "LANDING_OF_SOMEONE_ELSE"):
            connection.cursor().execute(f"CREATE TRANSIENT TABLE {name} (A INT)")
    just_before_midnight = datetime(2026, 9, 30, 23, 59, tzinfo=UTC)

    assert warehouse.drop_landing_tables(just_before_midnight) == [old]
    assert warehouse.drop_landing_tables(just_before_midnight) == []
    assert warehouse.landing_tables(DAY) == [new]


Gap = tuple[date, str, str, datetime, datetime, int, str]
FIRST, SECOND, THIRD = (date(2026, 10, day) for day in (1, 2, 3))


def gap(day: date, symbol: str, hour: int, count: int = 1, cause: str = "not_fetched") -> Gap:
    first = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    return day, symbol, "1m", first, first + timedelta(minutes=count - 1), count, cause


def put_gaps(lake: Lake, day: date, *gaps: Gap) -> None:
    """Store the ledger's object of a day, as the asset candle_gaps stores it."""
    stamp = pyarrow.timestamp("us", "UTC")
    schema = pyarrow.schema(
        [
            ("day", pyarrow.date32()),
            ("symbol", pyarrow.string()),
            ("interval", pyarrow.string()),
            ("first", stamp),
            ("last", stamp),
            ("count", pyarrow.int64()),
            ("cause", pyarrow.string()),
        ]
    )
    rows = [dict(zip(schema.names, each, strict=True)) for each in gaps]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), buffer)
    lake.client.put_object(
        Bucket=lake.bucket, Key=f"gaps/{day:%Y%m%d}.parquet", Body=buffer.getvalue()
    )


@pytest.fixture
def stored_gaps(snowflake_server: SnowflakeServer, warehouse_settings: SimpleNamespace) -> Any:
    """Reads the table of gaps with a plain connector session, by day, symbol and time."""

    def read() -> list[Gap]:
        with snowflake_server.connect(warehouse_settings.snowflake) as connection:
            cursor = connection.cursor().execute(
                'SELECT DAY, SYMBOL, "INTERVAL", FIRST_OPEN_TIME, LAST_OPEN_TIME, CANDLES, CAUSE '
                "FROM CANDLE_GAPS ORDER BY DAY, SYMBOL, FIRST_OPEN_TIME"
            )
            return [
                tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row)
                for row in cursor.fetchall()
            ]

    return read


def test_gaps_are_replaced_by_day(warehouse: Warehouse, lake: Lake, stored_gaps: Any) -> None:
    """The gaps of a day are replaced together, and those of other days stay."""
    before = [
        gap(FIRST, "BTCUSDT", 0, 30, "exchange_outage"),
        gap(FIRST, "币安人生USDT", 5),
        gap(SECOND, "BTCUSDT", 7),
        gap(THIRD, "ETHUSDT", 23, 60, "not_listed"),
    ]
    for day in (FIRST, SECOND, THIRD):
        put_gaps(lake, day, *(each for each in before if each[0] == day))
    days = [FIRST, SECOND, THIRD]
    assert warehouse.replace_gaps(days, days, "run-1") == 4
    assert stored_gaps() == before

    # One is filled, one is new, and a day has none any more.
    after = [before[1], gap(FIRST, "币安人生USDT", 9, 2, "archive_hole")]
    put_gaps(lake, FIRST, *after)
    put_gaps(lake, SECOND)
    for load_id in ("run-2", "run-2", "run-3"):
        assert warehouse.replace_gaps([FIRST, SECOND], [FIRST], load_id) == 2
        assert stored_gaps() == [*after, before[3]]


def test_no_days_ask_nothing(warehouse_settings: SimpleNamespace) -> None:
    """A call without days returns no gaps and sends no statement."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    down = warehouse_settings.snowflake.model_copy(update={"port": port})
    assert Warehouse(down, warehouse_settings.s3).replace_gaps([], [], "run") == 0


@pytest.mark.parametrize(
    "done", range(8), ids=["none", "landing", "copy", "begin", "delete", "insert", "commit", "drop"]
)
def test_reader_sees_old_or_new_gaps(
    warehouse: Warehouse,
    warehouse_settings: SimpleNamespace,
    snowflake_server: SnowflakeServer,
    lake: Lake,
    stored_gaps: Any,
    one_day: datetime,
    done: int,
) -> None:
    """A reader sees the old gaps or the new ones, whenever the loader dies."""
    before = [gap(FIRST, "BTCUSDT", 0), gap(SECOND, "BTCUSDT", 0)]
    after = [gap(FIRST, "ETHUSDT", hour) for hour in range(4)]
    put_gaps(lake, FIRST, before[0])
    put_gaps(lake, SECOND, before[1])
    warehouse.replace_gaps([FIRST, SECOND], [FIRST, SECOND], "run-1")
    put_gaps(lake, FIRST, *after)
    put_gaps(lake, SECOND)
    parts = warehouse.sql.replace_gaps([FIRST, SECOND], [FIRST], "run-2")
    with snowflake_server.connect(warehouse_settings.snowflake) as connection:
        for text in [parts.landing, *parts.copies, *parts.replace, parts.drop][:done]:
            connection.cursor().execute(text)
        committed = done > 5
        assert stored_gaps() == (after if committed else before)
        if not committed:
            # As Snowflake does with the session of a client that is gone.
            connection.cursor().execute("ROLLBACK")

    assert warehouse.replace_gaps([FIRST, SECOND], [FIRST], "run-2") == 4
    assert stored_gaps() == after
    assert warehouse.landing_tables(one_day) == []


def test_missing_ledger_object_changes_nothing(
    warehouse: Warehouse, lake: Lake, stored_gaps: Any
) -> None:
    """A day whose ledger object is missing is an error that names the object; no gap changes."""
    put_gaps(lake, FIRST, gap(FIRST, "BTCUSDT", 0))
    warehouse.replace_gaps([FIRST], [FIRST], "run")
    with pytest.raises(WarehouseError, match=r"20261002\.parquet.*materialize its day"):
        warehouse.replace_gaps([FIRST, SECOND], [SECOND], "run")
    assert stored_gaps() == [gap(FIRST, "BTCUSDT", 0)]


def test_gapless_days_are_emptied_without_load(
    warehouse: Warehouse, lake: Lake, stored_gaps: Any
) -> None:
    """Days without gaps are emptied, and none of their objects is loaded."""
    put_gaps(lake, FIRST, gap(FIRST, "BTCUSDT", 0))
    put_gaps(lake, SECOND, gap(SECOND, "BTCUSDT", 0))
    warehouse.replace_gaps([FIRST, SECOND], [FIRST, SECOND], "run-1")
    # Neither object exists: a COPY that named one would fail.
    for day in (FIRST, SECOND):
        lake.client.delete_object(Bucket=lake.bucket, Key=f"gaps/{day:%Y%m%d}.parquet")
    assert warehouse.replace_gaps([FIRST], [], "run-2") == 0
    assert stored_gaps() == [gap(SECOND, "BTCUSDT", 0)]


def test_failed_rollback_keeps_first_cause(
    warehouse: Warehouse, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause of a failed replacement is reported even if its rollback fails too."""
    put_gaps(lake, FIRST, gap(FIRST, "BTCUSDT", 0))
    warehouse.replace_gaps([FIRST], [FIRST], "run-1")

    def lost(connection: Any, _: Any) -> None:
        # A real session does not end at the wished statement.
        connection.close()
        raise OperationalError("the network went away between two statements")

    monkeypatch.setattr(module, "execute", lost)
    with pytest.raises(WarehouseError, match="the network went away between two statements"):
        warehouse.replace_gaps([FIRST], [FIRST], "run-2")


def test_candles_and_gaps_share_a_schema(
    warehouse: Warehouse, lake: Lake, stored_gaps: Any
) -> None:
    put_gaps(lake, FIRST, gap(FIRST, "BTCUSDT", 0))
    warehouse.replace_gaps([FIRST], [FIRST], "run")
    assert warehouse.load(QUARTER, [put_day(lake, "BTCUSDT")[0]], "run").rows_inserted == 96
    assert len(stored_gaps()) == 1


def test_2001_objects_are_three_copies() -> None:
    """2001 objects are loaded by three COPY statements."""
    keys = [f"15m/S{number}USDT/20261001_0000.parquet" for number in range(2001)]
    copies = Warehouse(SnowflakeSettings(), S3Settings()).sql.load(QUARTER, keys, "run").copies

    named = [re.findall(r"'(15m/[^']+)'", text) for text in copies]

    assert [len(names) for names in named] == [1000, 1000, 1]
    assert [name for names in named for name in names] == keys


@given(st.text(min_size=1))
def test_literal_is_read_back_unchanged(text: str) -> None:
    """A literal is read back as the same text."""
    parsed = sqlglot.parse_one(f"SELECT {literal(text)}", read="snowflake").expressions
    assert [expression.this for expression in parsed] == [text]
    assert all(expression.is_string for expression in parsed)


@pytest.mark.parametrize("name", ["", "lower", "A-B", 'A"', "A;DROP TABLE B", "1A", "A\n"])
def test_odd_identifier_is_refused(name: str) -> None:
    """An identifier with other characters is refused."""
    with pytest.raises(ValueError, match="cannot name a Snowflake object"):
        identifier(name)


@given(st.text(), st.text())
def test_landing_tables_of_two_loads_differ(first: str, second: str) -> None:
    names = [landing_name(QUARTER, load_id, date(2026, 10, 1)) for load_id in (first, second)]
    assert (names[0] == names[1]) == (first == second)


@pytest.mark.parametrize("name", SQL_FILES)
def test_sql_parses_in_snowflakes_dialect(name: str, caplog: pytest.LogCaptureFixture) -> None:
    text = files("pipeline_assets.resources").joinpath(f"warehouse_sql/{name}").read_text("utf-8")
    text = re.sub(r"\$\{(URL|FILES|SCHEMA_NAME|DAYS|START|END|SYMBOLS)\}", "'x'", text)
    text = re.sub(r"\$\{(MINUTES_\d+|LOAD_LAG_SECONDS)\}", "1", text)
    text = re.sub(r"\$\{STORAGE_CLAUSE\}", "STORAGE_INTEGRATION = S3_CANDLES", text)
    text = re.sub(r"\$\{(\w+)\}", r"\1_NAME", text)

    parsed = sqlglot.parse(text, read="snowflake")

    assert None not in parsed
    if name != "production.sql":
        # sqlglot keeps what it cannot parse as an opaque command, with a warning.
        assert len(parsed) == 1
        assert not isinstance(parsed[0], sqlglot.exp.Command)
        assert "unsupported syntax" not in caplog.text


@pytest.mark.parametrize("other", [Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR])
def test_concurrent_loads_store_rows_once(
    warehouse: Warehouse, lake: Lake, stored: Any, other: Interval
) -> None:
    """Loads at the same time store every row once.

    A command may load beside a run. Two MERGE statements at once would both insert the same rows.
    """
    days = [put_day(lake, f"COIN{number}USDT") for number in range(4)]
    keys = [key for key, _ in days]
    expected = by_key([candle for _, candles in days for candle in candles])
    with ThreadPoolExecutor(8) as pool:
        loads = [
            pool.submit(warehouse.load, interval, keys, f"run-{number}-{interval}-{place}")
            for number in range(4)
            for place, interval in enumerate((Interval.FIFTEEN_MINUTES, other))
        ]
        results = [load.result() for load in loads]
    tables = 1 if other is Interval.FIFTEEN_MINUTES else 2
    assert stored() == expected
    assert sum(each.rows_inserted for each in results) == tables * len(expected)
    assert sum(each.rows_updated for each in results) == 0


def test_concurrent_replacements_keep_gaps_once(
    warehouse: Warehouse, lake: Lake, stored_gaps: Any
) -> None:
    """Replacements of gaps at the same time leave each gap once."""
    gaps = [gap(FIRST, "BTCUSDT", 0, 30), gap(FIRST, "ETHUSDT", 5), gap(SECOND, "BTCUSDT", 7)]
    for day in (FIRST, SECOND):
        put_gaps(lake, day, *(each for each in gaps if each[0] == day))
    days = [FIRST, SECOND]
    warehouse.replace_gaps(days, days, "run")
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(warehouse.replace_gaps, days, days, f"run-{number}") for number in range(6)
        ]
        assert [each.result() for each in asked] == [3] * 6
    assert stored_gaps() == gaps
