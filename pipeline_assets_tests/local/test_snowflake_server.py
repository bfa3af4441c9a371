"""The embedded Snowflake server: what it keeps, what it refuses, what it answers."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from snowflake.connector.errors import DatabaseError, ProgrammingError

from pipeline_assets.local.snowflake_server import calls_model, s3_client
from pipeline_assets.local.staged_objects import StagedObjects
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import S3Settings
from pipeline_assets_tests.fixtures.s3 import (
    ACCESS_KEY_ID,
    HARD_NAME,
    SECRET_ACCESS_KEY,
    S3Bucket,
    S3Server,
)
from pipeline_assets_tests.fixtures.snowflake import (
    Lake,
    SnowflakeServer,
    day_of_candles,
    running_snowflake_server,
)

DAY = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def server(s3_server: S3Server, tmp_path: Path) -> Iterator[SnowflakeServer]:
    """Provide a server of the test's own, which it may kill. DuckDB gets the path within SQL."""
    directory = tmp_path / HARD_NAME
    directory.mkdir()
    with running_snowflake_server(directory, s3_server.endpoint) as running:
        yield running


def test_rows_outlive_kill(server: SnowflakeServer, lake: Lake) -> None:
    """Rows outlive a kill, and loading continues."""
    warehouse = Warehouse(server.settings(), S3Settings(bucket=lake.bucket))
    key = lake.put(day_of_candles("BTCUSDT", DAY), "15m/BTCUSDT/20261001_0000.parquet")
    warehouse.load(Interval.FIFTEEN_MINUTES, [key], "run-1")

    server.kill()
    server.start()

    assert warehouse.table_summary(Interval.FIFTEEN_MINUTES)["BTCUSDT"].rows == 96
    other = lake.put(day_of_candles("ETHUSDT", DAY), "15m/ETHUSDT/20261001_0000.parquet")
    again = warehouse.load(Interval.FIFTEEN_MINUTES, [key, other], "run-2")
    assert (again.rows_inserted, again.rows_updated) == (96, 0)


def test_boto3_chain_supplies_missing_credentials(
    checking_s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key in the settings, objects are read with the credentials of boto3's chain.

    As with a role. Half a credential, such as a default secret, would be an error of boto3's.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    checking_s3_bucket.client.put_object(Bucket=checking_s3_bucket.name, Key="a", Body=b"rows")
    unset = {"PIPELINE_S3__ACCESS_KEY_ID": "", "PIPELINE_S3__SECRET_ACCESS_KEY": ""}
    client = s3_client(checking_s3_bucket.endpoint, unset)
    assert StagedObjects(client).open(f"s3://{checking_s3_bucket.name}/a").read() == b"rows"


def test_rows_outlive_a_stop(server: SnowflakeServer, lake: Lake) -> None:
    warehouse = Warehouse(server.settings(), S3Settings(bucket=lake.bucket))
    key = lake.put(day_of_candles("BTCUSDT", DAY), "15m/BTCUSDT/20261001_0000.parquet")
    warehouse.load(Interval.FIFTEEN_MINUTES, [key], "run-1")

    assert server.process is not None
    server.process.terminate()
    server.process.wait(30)
    server.start()

    assert warehouse.table_summary(Interval.FIFTEEN_MINUTES)["BTCUSDT"].rows == 96


def test_second_server_on_data_is_refused(server: SnowflakeServer, lake: Lake) -> None:
    """A second server on the same data is refused."""
    warehouse = Warehouse(server.settings(), S3Settings(bucket=lake.bucket))
    warehouse.make_tables(Interval.ONE_HOUR)
    second = SnowflakeServer(server.data_dir, "http://127.0.0.1:9")

    with pytest.raises(AssertionError, match=r"MARKET_DATA\.db cannot be opened.*Stop the server"):
        second.start()


def test_wrong_password_answers_as_snowflake(snowflake_server: SnowflakeServer) -> None:
    """A wrong password is answered as Snowflake does."""
    import snowflake.connector

    with pytest.raises(
        DatabaseError, match="Incorrect username or password was specified"
    ) as caught:
        snowflake.connector.connect(
            account="embedded", user="pipeline", password="other", host="127.0.0.1",
            port=snowflake_server.port, protocol="http", login_timeout=5,
        )  # fmt: skip
    assert caught.value.errno == 390100


def test_copy_sees_the_current_object(warehouse: Warehouse, lake: Lake) -> None:
    """A COPY reads an object's current content."""
    key = "15m/BTCUSDT/20261001_0000.parquet"
    for count in (1, 2, 3):
        lake.put(day_of_candles("BTCUSDT", DAY, count=count), key)
        result = warehouse.load(Interval.FIFTEEN_MINUTES, [key], "run")
        assert (result.rows_loaded, result.rows_inserted) == (count, 1)


def test_failed_copy_leaves_no_row(
    snowflake_server: SnowflakeServer,
    warehouse: Warehouse,
    warehouse_settings: SimpleNamespace,
    lake: Lake,
) -> None:
    """A COPY that fails at its second file leaves no row."""
    warehouse.make_tables(Interval.FIFTEEN_MINUTES)
    lake.put(day_of_candles("BTCUSDT", DAY), "whole.parquet")
    # Its footer is sound and its pages are not, so it fails when its rows are read.
    lake.put(day_of_candles("ETHUSDT", DAY), "broken.parquet")
    stored = {"Bucket": lake.bucket, "Key": "ohlcv/broken.parquet"}
    body = lake.client.get_object(**stored)["Body"].read()
    lake.client.put_object(**stored, Body=body[:4] + bytes(400) + body[404:])
    with snowflake_server.connect(warehouse_settings.snowflake) as connection:
        cursor = connection.cursor()
        with pytest.raises(ProgrammingError, match=r"broken\.parquet"):
            cursor.execute(
                "COPY INTO CANDLES_15M FROM @CANDLE_OBJECTS FILES = ('whole.parquet', "
                "'broken.parquet') FILE_FORMAT = (TYPE = PARQUET) "
                "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
            )
        assert cursor.execute("SELECT COUNT(*) FROM CANDLES_15M").fetchone() == (0,)


def test_breaking_statement_fails_at_once(server: SnowflakeServer) -> None:
    """A statement with an internal error of the server fails at once; the client does not repeat it."""
    with server.connect(server.settings()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE ONCE (A INT PRIMARY KEY)")
        cursor.execute("INSERT INTO ONCE VALUES (1)")
        with pytest.raises(ProgrammingError, match="000603"):
            cursor.execute("INSERT INTO ONCE VALUES (1)")
    assert server.statements()["INSERT INTO"] == 2


def test_staged_file_comes_back(snowflake_server: SnowflakeServer, tmp_path: Path) -> None:
    """A file that a client puts on a stage is there, as a deployment of a model needs it."""
    (tmp_path / "model.yaml").write_text("name: a", "utf-8")
    with snowflake_server.connect(snowflake_server.settings()) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TEMPORARY STAGE MODELS_OF_TEST")
        cursor.execute(f"PUT 'file://{tmp_path}/model.yaml' @MODELS_OF_TEST AUTO_COMPRESS = FALSE")
        [[name, size, *_]] = cursor.execute("LIST @MODELS_OF_TEST").fetchall()
    assert (name, size) == ("models_of_test/model.yaml", 7)


@pytest.mark.parametrize(
    "call",
    [
        "SELECT m!PREDICT_PROBA(1) AS p",
        "SELECT MODEL(m, v1) ! predict(1):won::FLOAT",
        'WITH j AS MODEL m VERSION v1 SELECT j!"PREDICT"(1)',
        "SELECT 'it''s', m!p(1) -- a comment",
    ],
)
def test_model_call_is_refused(snowflake_server: SnowflakeServer, call: str) -> None:
    """fakesnow would drop the column and report success."""
    connected = snowflake_server.connect(snowflake_server.settings())
    with connected as connection, pytest.raises(ProgrammingError, match="runs no model"):
        connection.cursor().execute(call)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'm!PREDICT(1)'",
        'SELECT 1 AS "m!PREDICT(1)"',
        "SELECT 1 /* m!PREDICT(1) */",
        "SELECT 1 -- m!PREDICT(1)",
        "SELECT 1 != (2)",
        "SELECT 1 !=ABS(2)",
    ],
)
def test_other_exclamation_marks_pass(statement: str) -> None:
    assert not calls_model(statement)


def test_loopback_only_and_names_requirements() -> None:
    """The server listens on loopback only and names what it needs."""
    asked = subprocess.run(
        [sys.executable, "-m", "pipeline_assets.local.snowflake_server"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 2
    assert "--s3-endpoint" in asked.stderr
