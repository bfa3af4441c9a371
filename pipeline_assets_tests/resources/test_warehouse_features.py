"""The tables of features on the embedded server: their values, their history, repeats and failures."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.local.stack import REPOSITORY
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.features import FEATURES, Feature, feature_names
from pipeline_assets.research.features.query import Span, feature_query
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.warehouse_features import NEWEST_CANDLES
from pipeline_assets_tests.feature_table import feature_table
from pipeline_assets_tests.fixtures.features import (
    START,
    SYMBOLS,
    FeatureWarehouse,
    made_candles,
    made_rates,
)
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import Lake, SnowflakeServer
from pipeline_assets_tests.generated_features import FOLDER, generated, snowpark_session

# In one process, which makes the histories once.
pytestmark = pytest.mark.xdist_group("features")
QUARTER, HOUR = Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR
COUNT = 230
# The candle at which histories are cut, and the one that GAPUSDT is missing.
CUT, HOLE = 200, 120
LISTED = 190
LENGTHS = sorted({each.candles for each in FEATURES})


def history(interval: Interval) -> list[dict[str, Any]]:
    """Return candles of four symbols: one misses a candle, one is listed late."""
    left_out = {("GAPUSDT", START + HOLE * interval.span)}
    listed = START + LISTED * interval.span
    return [
        row
        for row in made_candles(interval, COUNT)
        if (row["symbol"], row["open_time"]) not in left_out
        and not (row["symbol"] == "NEWUSDT" and row["open_time"] < listed)
    ]


@pytest.fixture(scope="module")
def bucketed(s3_server: S3Server) -> Lake:
    return Lake(make_bucket(s3_server))


@pytest.fixture
def features(snowflake_server: SnowflakeServer, bucketed: Lake) -> FeatureWarehouse:
    """Provide an empty database."""
    return FeatureWarehouse.of(snowflake_server, bucketed)


@pytest.fixture(scope="module")
def histories(
    snowflake_server: SnowflakeServer, bucketed: Lake
) -> dict[str, dict[str, pl.DataFrame]]:
    """Provide the features of one history, whole and cut, by interval.

    `whole` are of all candles, `past` of those up to CUT, and `short` of copies of ETHUSDT besides, such as
    SHORT16 that has CUT and the 16 candles before it.
    """
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for interval in (QUARTER, HOUR):
        held = FeatureWarehouse.of(snowflake_server, bucketed)
        held.load(interval, history(interval))
        held.make_tables(interval)
        end = START + COUNT * interval.span
        held.load_rates(made_rates(end))
        frames = {"whole": held.made_anew(interval, START, end)}
        cut = START + CUT * interval.span
        table = f"CANDLES_{interval.upper()}"
        held.run(
            f"DELETE FROM {table} WHERE OPEN_TIME > '{cut:%Y-%m-%d %H:%M:%S}'",
            f"DELETE FROM FUNDING_RATES WHERE FUNDING_TIME > '{cut:%Y-%m-%d %H:%M:%S}'",
        )
        frames["past"] = held.made_anew(interval, START, end)
        # The windows of an hour are those of a quarter: their look-back is studied once.
        if interval is QUARTER:
            names = [f"SHORT{length}" for length in LENGTHS]
            held.load(interval, [row for length in LENGTHS for row in shortened(interval, length)])
            held.load_rates([(name, *rate[1:]) for name in names for rate in rates_of("ETHUSDT")])
            held.made_anew(interval, cut, end)
            frames["short"] = held.read(interval, ["ETHUSDT", *names])
        found[interval] = frames
    return found


def shortened(interval: Interval, length: int) -> list[dict[str, Any]]:
    """Return a copy of ETHUSDT that ends at CUT and has so many candles before."""
    cut = START + CUT * interval.span
    return [
        {**row, "symbol": f"SHORT{length}"}
        for row in made_candles(interval, COUNT)
        if row["symbol"] == "ETHUSDT" and cut - length * interval.span <= row["open_time"] <= cut
    ]


def rates_of(symbol: str) -> list[tuple[str, datetime, float]]:
    return [rate for rate in made_rates(START + CUT * QUARTER.span) if rate[0] == symbol]


def at(frame: pl.DataFrame, moment: datetime, *symbols: str) -> pl.DataFrame:
    return frame.filter(pl.col("open_time") == moment, pl.col("symbol").is_in(symbols or SYMBOLS))


@pytest.mark.parametrize("interval", [QUARTER, HOUR])
@pytest.mark.parametrize("name", feature_names())
def test_later_rows_change_nothing(
    histories: dict[str, dict[str, pl.DataFrame]], interval: Interval, name: str
) -> None:
    """A feature does not look ahead: with all later candles and rates deleted, each value is the same."""
    frames, cut = histories[interval], START + CUT * interval.span
    whole = frames["whole"].filter(pl.col("open_time") <= cut)
    assert frames["past"].height == whole.height > 500
    columns = ["symbol", "open_time", "available_at", name]
    assert_frame_equal(frames["past"].select(columns), whole.select(columns), check_exact=True)
    assert whole[name].is_not_null().any()


@pytest.mark.parametrize("feature", FEATURES, ids=lambda each: each.name)
def test_look_back_is_as_declared(
    histories: dict[str, dict[str, pl.DataFrame]], feature: Feature
) -> None:
    """A feature reads as many candles as it declares: with these alone it is the same, with fewer null."""
    cut = START + CUT * QUARTER.span
    assert feature.look_back(HOUR) == feature.candles * HOUR.span
    rows = histories[QUARTER]["short"].filter(pl.col("open_time") == cut)
    found = dict(rows.select("symbol", feature.name).iter_rows())
    assert found["ETHUSDT"] is not None
    assert found[f"SHORT{feature.candles}"] == pytest.approx(found["ETHUSDT"], abs=1e-9)
    fewer = [length for length in LENGTHS if length < feature.candles]
    # The market's median needs no history of the symbol's own.
    if feature.name != "market_return_4":
        assert [found[f"SHORT{length}"] for length in fewer] == [None] * len(fewer)


@pytest.mark.parametrize("interval", [QUARTER, HOUR])
def test_features_equal_pandas(
    histories: dict[str, dict[str, pl.DataFrame]], interval: Interval
) -> None:
    """Each feature equals an independent calculation, nulls included."""
    rates = made_rates(START + COUNT * interval.span)
    expected = by_pandas(history(interval), rates, interval)
    found = histories[interval]["whole"].to_pandas().set_index(["symbol", "open_time"])
    assert len(found) == len(expected)
    for name in feature_names():
        pd.testing.assert_series_equal(
            found[name], expected[name], rtol=0, atol=2e-9, check_names=False, check_freq=False,
            check_index_type=False,
        )  # fmt: skip
        assert found[name].notna().any(), name


def by_pandas(
    candles: list[dict[str, Any]], rates: list[tuple[str, datetime, float]], interval: Interval
) -> pd.DataFrame:
    """Calculate all features on a grid whose missing candles are NaN."""
    rows = pd.DataFrame(candles)
    grid = pd.date_range(START, periods=COUNT, freq=pd.Timedelta(interval.span))
    close, high, low, volume, taker, trades = (
        rows.pivot(index="open_time", columns="symbol", values=name).reindex(grid)
        for name in ("close", "high", "low", "quote_volume", "taker_buy_quote_volume", "trades")
    )
    returns = np.log(close / close.shift(1))
    bitcoin = returns["BTCUSDT"]
    repeated = pd.concat([bitcoin] * close.shape[1], axis=1, keys=close.columns)
    # As in the table, a row needs its own symbol's history only; Bitcoin's windows are on that symbol's rows.
    repeated = repeated.where(close.notna())
    past = {n: returns.rolling(n, min_periods=n) for n in (4, 16, 96)}
    btc_past = {n: repeated.rolling(n, min_periods=n) for n in (4, 16, 96)}
    made: dict[str, pd.DataFrame] = {"return_1": returns}
    for n in (4, 16, 96):
        made[f"return_{n}"] = past[n].sum()
    for n in (16, 96):
        made[f"volatility_{n}"] = past[n].std()
        path = returns.abs().rolling(n, min_periods=n).sum()
        made[f"trend_{n}"] = past[n].sum() / path
        made[f"average_distance_{n}"] = np.log(close / close.rolling(n, min_periods=n).mean())
        lowest = low.rolling(n, min_periods=n).min()
        highest = high.rolling(n, min_periods=n).max()
        made[f"range_position_{n}"] = (close - lowest) / (highest - lowest)
        made[f"volume_ratio_{n}"] = volume / volume.rolling(n, min_periods=n).mean()
        bought, traded = (each.rolling(n, min_periods=n).sum() for each in (taker, volume))
        made[f"taker_buy_share_{n}"] = bought / traded
        if n == 16:
            made["range_16"] = np.log(highest / lowest)
    made["volatility_ratio"] = made["volatility_16"] / made["volatility_96"]
    made["range_1"] = np.log(high / low)
    made["trades_ratio_96"] = trades / trades.rolling(96, min_periods=96).mean()
    made["taker_buy_share_1"] = taker / volume
    made["btc_return_4"] = btc_past[4].sum()
    for n in (4, 16):
        made[f"btc_relative_return_{n}"] = past[n].sum() - btc_past[n].sum()
        median = made[f"return_{n}"].median(axis=1)
        made[f"market_relative_return_{n}"] = made[f"return_{n}"].sub(median, axis=0)
        if n == 4:
            made["market_return_4"] = close.notna().apply(lambda _, held=median: held)
    covariance = returns.apply(lambda each: each.rolling(96, min_periods=96).cov(bitcoin, ddof=0))
    made["btc_beta_96"] = covariance.div(bitcoin.rolling(96, min_periods=96).var(ddof=0), axis=0)
    made["btc_correlation_96"] = returns.apply(
        lambda each: each.rolling(96, min_periods=96).corr(bitcoin)
    )
    closes = grid + interval.span
    angle = 2 * np.pi * (closes.hour + closes.minute / 60) / 24
    for name, values in (("hour_sin", np.sin(angle)), ("hour_cos", np.cos(angle))):
        made[name] = pd.DataFrame(dict.fromkeys(close.columns, values), index=grid)
    for name, place in (("hours_since_funding", 0), ("funding_rate", 1)):
        made[name] = pd.DataFrame(
            {s: [funding_at(rates, s, each)[place] for each in closes] for s in close.columns},
            index=grid,
        )
    whole = pd.concat({name: made[name].where(close.notna()).unstack() for name in made}, axis=1)
    whole.index = whole.index.set_names(["symbol", "open_time"])
    held = pd.MultiIndex.from_frame(rows[["symbol", "open_time"]])
    return whole.loc[held].sort_index()


def funding_at(
    rates: list[tuple[str, datetime, float]], symbol: str, closes: Any
) -> tuple[float, float]:
    """Return the hours since the newest rate an hour old and under nine, and the rate; NaN if none."""
    hour = timedelta(hours=1)
    known = [
        (settled, rate)
        for name, settled, rate in rates
        if name == symbol and closes - 9 * hour < settled <= closes - hour
    ]
    if not known:
        return np.nan, np.nan
    settled, rate = max(known)
    return (closes - settled) / hour, rate


def test_gap_gives_nulls(histories: dict[str, dict[str, pl.DataFrame]]) -> None:
    """A missing candle nulls each window over it, and no other."""
    rows = histories[QUARTER]["whole"].filter(pl.col("symbol") == "GAPUSDT")
    places = ((pl.col("open_time") - START) / QUARTER.span).cast(pl.Int64)

    def nulls(name: str) -> list[int]:
        found = rows.filter(pl.col(name).is_null(), places > 96).select(places)
        return found.to_series().to_list()

    assert rows.height == COUNT - 1
    assert nulls("return_1") == [HOLE + 1]
    assert nulls("return_4") == [HOLE + 1, HOLE + 2, HOLE + 3, HOLE + 4]
    assert nulls("volume_ratio_16") == list(range(HOLE + 1, HOLE + 16))
    assert nulls("average_distance_96") == list(range(HOLE + 1, HOLE + 96))
    assert nulls("taker_buy_share_1") == nulls("hour_sin") == []


def test_new_symbol_has_no_history(histories: dict[str, dict[str, pl.DataFrame]]) -> None:
    """The first candle of a symbol has the features of that candle alone; the rest are null."""
    first = START + LISTED * QUARTER.span
    row = at(histories[QUARTER]["whole"], first, "NEWUSDT").row(0, named=True)
    alone = {each.name for each in FEATURES if each.candles == 0} | {"market_return_4"}
    assert {name for name in feature_names() if row[name] is not None} == alone
    assert row["available_at"] == first + QUARTER.span + timedelta(seconds=60)


def test_repeat_changes_nothing(features: FeatureWarehouse) -> None:
    """A second MERGE of a span, and one of a wider span, change no row."""
    features.load(QUARTER, made_candles(QUARTER, 120))
    end = START + 120 * QUARTER.span
    first = features.table.merge(QUARTER, START + 100 * QUARTER.span, end)
    assert (first.rows_inserted, first.rows_updated) == (20 * len(SYMBOLS), 0)
    assert first.newest_available_at == end + timedelta(seconds=60)
    assert features.table.merge(QUARTER, START + 100 * QUARTER.span, end).rows_merged == 0
    whole = features.table.merge(QUARTER, START, end)
    assert (whole.rows_inserted, whole.rows_updated) == (100 * len(SYMBOLS), 0)


@pytest.mark.matrix
def test_late_candle_updates_later_rows(features: FeatureWarehouse) -> None:
    """A candle that comes late is merged with the rows that look back to it, as if it had been there."""
    candles = made_candles(QUARTER, 120)
    late = START + 10 * QUARTER.span
    without = [row for row in candles if (row["symbol"], row["open_time"]) != ("ETHUSDT", late)]
    features.load(QUARTER, without)
    features.table.merge(QUARTER, START, START + 120 * QUARTER.span)
    features.load(QUARTER, candles)
    found = features.table.merge(QUARTER, late, late + QUARTER.span)
    assert found.rows_inserted == 1
    assert found.rows_updated > 16
    corrected = features.read(QUARTER)
    anew = features.made_anew(QUARTER, START, START + 120 * QUARTER.span)
    assert_frame_equal(corrected, anew, check_exact=True)


def test_live_rows_equal_training_rows(features: FeatureWarehouse) -> None:
    """Rows merged step by step as a day grows equal those of one MERGE of the day, at each step.

    Funding rates come half an hour after they settled.
    """
    day = START + timedelta(days=1)
    candles, rates = made_candles(QUARTER, 192), made_rates(START + timedelta(days=2))
    features.load(QUARTER, [row for row in candles if row["open_time"] < day])
    features.make_tables(QUARTER)
    late = timedelta(minutes=30)
    features.load_rates([rate for rate in rates if rate[1] + late <= day])
    live = []
    # Each load brings sixteen candles, so that the day takes six steps.
    step = 16 * QUARTER.span
    for index in range(1, 7):
        now = day + index * step
        features.load(QUARTER, [row for row in candles if now - step <= row["open_time"] < now])
        settled = [rate for rate in rates if now - step < rate[1] + late <= now]
        if settled:
            features.load_rates(settled)
        features.table.merge(QUARTER, day, day + timedelta(days=1))
        live.append(features.table.newest(QUARTER, SYMBOLS, now + timedelta(seconds=60)))
    seen = pl.concat(live).sort("symbol", "open_time")
    training = features.made_anew(QUARTER, day, day + timedelta(days=1))
    keys = seen.select("symbol", "open_time")
    assert seen.height == 6 * len(SYMBOLS)
    assert_frame_equal(seen, training.join(keys, ["symbol", "open_time"]), check_exact=True)
    assert seen["funding_rate"].is_not_null().any()


def test_newest_is_known_at_the_moment(features: FeatureWarehouse) -> None:
    """The newest row is one that was available, from a bounded span."""
    features.load(QUARTER, made_candles(QUARTER, 20))
    end = START + 20 * QUARTER.span
    features.table.merge(QUARTER, START, end)
    asked = ["ETHUSDT", "ABSENTUSDT"]

    def newest(moment: datetime) -> list[datetime]:
        return features.table.newest(QUARTER, asked, moment)["open_time"].to_list()

    available = end + timedelta(seconds=60)
    assert newest(available) == [end - QUARTER.span]
    assert newest(available - timedelta(microseconds=1)) == [end - 2 * QUARTER.span]
    assert newest(available + NEWEST_CANDLES * QUARTER.span) == []
    read = features.table.read(QUARTER, asked, available - QUARTER.span, available)
    assert read["open_time"].to_list() == [end - 2 * QUARTER.span]
    assert features.table.newest(QUARTER, [], available).columns == read.columns


def test_absent_table_is_an_empty_frame(features: FeatureWarehouse) -> None:
    """Before the first MERGE a frame has the catalogue's columns and no row."""
    found = features.read(QUARTER)
    assert found.height == 0
    assert found.columns == ["symbol", "open_time", "available_at", *feature_names()]
    features.load(QUARTER, made_candles(QUARTER, 4))
    features.table.merge(QUARTER, START, START + timedelta(hours=1))
    assert features.read(QUARTER).schema == found.schema


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE CANDLES_15M RENAME COLUMN TRADES TO COUNTED",
        "ALTER TABLE FEATURES_15M DROP COLUMN RETURN_1",
        pytest.param(
            "ALTER TABLE FEATURES_15M RENAME COLUMN RETURN_1 TO RETURNED", marks=pytest.mark.matrix
        ),
    ],
)
def test_changed_columns_are_named(features: FeatureWarehouse, damage: str) -> None:
    """A renamed or missing column is an error that names it and what to do."""
    features.load(QUARTER, made_candles(QUARTER, 4))
    features.make_tables(QUARTER)
    features.run(damage)
    with pytest.raises(WarehouseError, match=r"(?i)(trades|return_1)") as failed:
        features.table.merge(QUARTER, START, START + timedelta(hours=1))
    assert "another version" in str(failed.value)
    if "FEATURES" in damage:
        with pytest.raises(WarehouseError, match=r"(?i)return_1.*another version"):
            features.read(QUARTER)


def test_statements_are_what_snowpark_generates(features: FeatureWarehouse) -> None:
    """`make generate` would change nothing."""
    for name, text in generated(features.server, features.settings).items():
        assert FOLDER.joinpath(f"{name}.sql").read_text("utf-8") == text, name


@pytest.mark.parametrize("interval", [QUARTER, HOUR])
def test_filled_statement_is_the_intervals_own(
    features: FeatureWarehouse, interval: Interval
) -> None:
    """The MERGE of an interval contains the query that Snowpark makes of that interval's own numbers."""
    end = START + timedelta(days=1)
    schema = f"{features.settings.database}.{features.settings.schema_name}"
    minutes = interval.span // timedelta(minutes=1)
    features.warehouse.make_tables(interval)
    with snowpark_session(features.server, features.settings) as session:
        span = Span(schema, f"CANDLES_{interval.upper()}", minutes, START, end, 60)
        (query,) = feature_query(session, span).queries["queries"]
    assert " ".join(query.split()) in " ".join(
        features.table.statement(interval, START, end).split()
    )


def test_docs_list_every_feature() -> None:
    """The table in docs/features.md is the catalogue's."""
    assert feature_table() in (REPOSITORY / "docs" / "features.md").read_text("utf-8")


def test_feature_names_are_distinct_columns() -> None:
    names = feature_names()
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.isidentifier() for name in names)
    assert all(each.unit and each.description.endswith(".") for each in FEATURES)
