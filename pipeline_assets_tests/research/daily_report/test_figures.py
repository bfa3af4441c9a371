"""Calculations of sections without a warehouse: clusters, completeness, intervals, equity, billed time."""

import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.windows import Window
from pipeline_assets.research.daily_report.clusters import clusters_of
from pipeline_assets.research.daily_report.completeness import completeness_of, doubtful_candles
from pipeline_assets.research.daily_report.equity import curves, drawdowns, equity_of, times_of
from pipeline_assets.research.daily_report.intervals import mean_limits, wilson
from pipeline_assets.research.daily_report.readers import RunRecord
from pipeline_assets.research.daily_report.run_figures import billed, run_figures

START = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIME = pl.Datetime("us", "UTC")


def closes(groups: int = 2, size: int = 3, hours: int = 30) -> list[tuple[str, datetime, float]]:
    """Return closes of groups of symbols; those of one group move together."""
    chance, rows = np.random.default_rng(7), []
    for group in range(groups):
        market = chance.normal(0, 0.01, hours)
        for number in range(size):
            path = np.cumsum(market + chance.normal(0, 0.001, hours))
            name = f"G{group}N{number}USDT"
            rows += [
                (name, START + place * HOUR, float(np.exp(at))) for place, at in enumerate(path)
            ]
    return rows


def frame_of(rows: list[tuple[str, datetime, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, {"symbol": pl.String, "open_time": TIME, "close": pl.Float64}, orient="row"
    )


def test_old_ledger_is_doubted() -> None:
    """Candles that the ledger has as not fetched are doubted where their symbol's day is finalized."""
    keys = {"width": ["1h", "1h", "1h"], "day": [START.date()] * 3, "symbol": ["A", "B", "C"]}
    causes = ["not_fetched", "not_fetched", "exchange_outage"]
    gaps = pl.DataFrame(keys | {"candles": [24, 7, 1], "cause": causes})
    finalized = pl.DataFrame(keys).filter(pl.col("symbol") != "B")
    assert doubtful_candles(finalized, gaps) == 24


def test_clusters_are_found() -> None:
    """Symbols that move together are a cluster, whatever the order of the rows."""
    rows = closes()
    found = clusters_of(frame_of(rows))
    random.Random(1).shuffle(rows)
    again = clusters_of(frame_of(rows))
    assert found is not None
    assert again is not None
    assert {frozenset(each) for each in found.groups} == {
        frozenset(f"G{group}N{number}USDT" for number in range(3)) for group in range(2)
    }
    assert again.symbols == found.symbols
    assert np.array_equal(again.correlations, found.correlations)


def test_unusable_symbols_join_no_cluster() -> None:
    """A symbol with a missing hour, or whose price never moved, has no correlation."""
    rows = closes(groups=1)
    still = [("STILLUSDT", at, 1.0) for name, at, _ in rows if name == "G0N0USDT"]
    holed = [("HOLEDUSDT", at, close) for name, at, close in rows[:29] if name == "G0N0USDT"]
    found = clusters_of(frame_of([*rows, *still, *holed]))
    assert found is not None
    assert sorted(found.symbols) == ["G0N0USDT", "G0N1USDT", "G0N2USDT"]
    assert clusters_of(frame_of(rows[:30])) is None


def test_completeness_counts_due_candles() -> None:
    """Candles before a listing are not expected, and a symbol without any candle is."""
    day = date(2026, 11, 20)
    finalized = pl.DataFrame(
        {"width": ["1h"] * 2, "day": [day] * 2, "symbol": ["AUSDT", "NEWUSDT"]}
    )
    gaps = pl.DataFrame(
        [
            (day, "NEWUSDT", "1h", 20, "not_listed"),
            (day, "NEWUSDT", "1h", 1, "not_fetched"),
            (day, "GONEUSDT", "1h", 24, "not_fetched"),
        ],
        {
            "day": pl.Date,
            "symbol": pl.String,
            "width": pl.String,
            "candles": pl.Int64,
            "cause": pl.String,
        },
        orient="row",
    )
    assert completeness_of(finalized, gaps, [day]).rows() == [("1h", day, 3, 24 + 4 + 24, 25)]
    assert completeness_of(finalized, gaps, []).is_empty()


@pytest.mark.parametrize(
    ("positive", "cases", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (0, 20, 0, 0.1611), (1, 1, 0.2065, 1)],
)
def test_wilson_limits(positive: int, cases: int, low: float, high: float) -> None:
    """The limits are those of published tables."""
    found = wilson(positive, cases)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_few_blocks_have_no_interval() -> None:
    hours = pl.DataFrame({"hour": [START + place * HOUR for place in range(8)]}, {"hour": TIME})
    hours = hours.with_columns(cases=pl.lit(4), returns=pl.int_range(8).cast(pl.Float64))
    found = mean_limits(hours, "returns", HOUR)
    assert found.low < 3.5 / 4 < found.high
    assert np.isnan(mean_limits(hours, "returns", 2 * HOUR).low)


def test_equity_follows_position() -> None:
    """A long position at the start falls, is sold, and the fee is lost."""
    positions = pl.DataFrame({"account": ["paper"], "symbol": ["AUSDT"], "quantity": [2.0]})
    fills = pl.DataFrame(
        [("paper", "AUSDT", START + 1.5 * HOUR, -2.0, 180.0, 179.0)],
        {
            "account": pl.String, "symbol": pl.String, "filled_at": TIME, "signed_quantity": pl.Float64,
            "value": pl.Float64, "cash_flow": pl.Float64,
        },
        orient="row",
    )  # fmt: skip
    marks = pl.DataFrame(
        [
            ("AUSDT", START, 100.0),
            ("AUSDT", START + HOUR, 80.0),
            ("AUSDT", START + 3 * HOUR, 500.0),
        ],
        {"symbol": pl.String, "known_at": TIME, "price": pl.Float64},
        orient="row",
    )
    times = times_of(Window(START, START + 3 * HOUR), HOUR, fills, marks)
    found = curves(equity_of(positions, fills, marks, times))
    assert found["equity"].to_list() == [0, -40, -21, -21]
    assert drawdowns(found).rows() == [("paper", 40)]


@pytest.mark.parametrize(
    ("marked", "filled", "last"),
    [(2, None, 2), (2, 1, 2), (2, 2.5, 3), (None, 4, 5), (None, None, 0), (24, 23.9, 24)],
)
def test_times_end_with_prices(marked: float | None, filled: float | None, last: int) -> None:
    """The line of a day that is not over ends at the newest close, or just after a newer fill."""

    def moments(name: str, hour: float | None) -> pl.DataFrame:
        return pl.DataFrame({name: [] if hour is None else [START + hour * HOUR]}, {name: TIME})

    day = Window(START, START + 24 * HOUR)
    times = times_of(day, HOUR, moments("filled_at", filled), moments("known_at", marked))
    assert times == [START + place * HOUR for place in range(last + 1)]


def test_removed_runs_are_named() -> None:
    """Dagster keeps runs for days, so figures of a week say since when runs are counted."""
    late = START + timedelta(days=5)
    runs = [RunRecord("raw_candles_1m", late, weight=7, warehouse=2)]
    for figure in run_figures(runs, START):
        assert "since 2026-11-25 00:00, the first that Dagster keeps" in figure.detail
        assert "since" not in run_figures(runs, late)[0].detail


def test_each_resumption_is_billed() -> None:
    """Runs within a minute of each other share a resumption; another one costs a minute at least."""
    ends = [START, START + timedelta(seconds=50), START + timedelta(hours=1)]
    runs = [RunRecord("candle_table_1h", at, warehouse=5) for at in ends]
    assert billed(runs) == (2, timedelta(seconds=115 + 65))
    assert billed([]) == (0, timedelta(0))
