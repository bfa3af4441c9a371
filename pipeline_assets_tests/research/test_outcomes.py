"""Outcomes of candidates against a calculation of its own in plain Python, and without a look ahead."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.outcomes import outcomes_of
from pipeline_assets.resources.outcome_objects import HORIZONS, outcome_schema
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.market.frames import candidates_frame

MINUTE = Interval.ONE_MINUTE.span
END = MIDNIGHT + timedelta(hours=6)
Minutes = Mapping[tuple[str, datetime], Mapping[str, float]]


@pytest.fixture(scope="module")
def minutes() -> Minutes:
    """Random minutes of four symbols over six hours; some are missing, of one symbol all."""
    drawn = random.Random(20)
    made: dict[tuple[str, datetime], dict[str, float]] = {}
    for symbol in range(1, 4):
        price = 100.0
        for number in range(360):
            low, high = price * (1 - drawn.random() / 50), price * (1 + drawn.random() / 50)
            close = drawn.uniform(low, high)
            if drawn.random() > 0.004 * (symbol - 1):
                made[f"COIN{symbol}USDT", MIDNIGHT + number * MINUTE] = {
                    "open": price, "high": high, "low": low, "close": close,
                }  # fmt: skip
            price = close
    return made


@pytest.fixture(scope="module")
def found() -> pl.DataFrame:
    """A candidate of every minute of forty and each of four symbols, long and short."""
    return candidates_frame(candidates(40, 4))


def as_frame(minutes: Minutes) -> pl.DataFrame:
    rows = [
        {"symbol": symbol, "open_time": at, **prices} for (symbol, at), prices in minutes.items()
    ]
    return pl.DataFrame(rows).with_columns(pl.col("open_time").cast(pl.Datetime("us", "UTC")))


def expected(candidate: Mapping[str, Any], minutes: Minutes, until: datetime) -> dict[str, Any]:
    """Return the figures of a candidate, minute by minute."""
    entry = candidate["open_time"] + MINUTE
    first = minutes.get((candidate["symbol"], entry))
    price = first["open"] if first and entry + MINUTE <= until else None
    figures: dict[str, Any] = {"entry_time": entry, "entry_price": price}
    for name, count in HORIZONS.items():
        span = [minutes.get((candidate["symbol"], entry + each * MINUTE)) for each in range(count)]
        over = entry + count * MINUTE <= until
        gain = dict.fromkeys(("return", "favourable", "adverse"))
        if over and None not in span:
            moves = {
                "return": span[-1]["close"] / price - 1,
                "up": max(each["high"] for each in span) / price - 1,
                "down": min(each["low"] for each in span) / price - 1,
            }
            long = candidate["side"] == "long"
            gain = {
                "return": moves["return"] * (1 if long else -1),
                "favourable": moves["up"] if long else -moves["down"],
                "adverse": moves["down"] if long else -moves["up"],
            }
        figures |= {f"{kind}_{name}": value for kind, value in gain.items()}
        figures[f"missing_{name}"] = span.count(None) if over else None
    return figures


def test_outcomes_equal_plain_calculation(minutes: Minutes, found: pl.DataFrame) -> None:
    """Known, missing and unfinished horizons, long and short, each figure to the last digits."""
    until = MIDNIGHT + timedelta(hours=4, minutes=20)
    outcomes = outcomes_of(found, as_frame(minutes), until)
    assert outcomes.schema == outcome_schema()
    assert outcomes["candidate_id"].to_list() == found["id"].to_list()
    wanted = [expected(each, minutes, until) for each in found.to_dicts()]
    for name in wanted[0]:
        values = [each[name] for each in wanted]
        assert outcomes[name].to_list() == (
            pytest.approx(values, abs=1e-12) if outcomes[name].dtype.is_float() else values
        ), name
    # The cases occur.
    states = {
        ("over" if gap is not None else "not over", bool(gap), change is not None)
        for gap, change in outcomes.select("missing_4h", "return_4h").iter_rows()
    }
    assert states == {("over", False, True), ("over", True, False), ("not over", False, False)}


@pytest.mark.parametrize("hours", [0, 1, 4])
def test_outcomes_use_no_later_minute(minutes: Minutes, found: pl.DataFrame, hours: int) -> None:
    """Minutes after a time change nothing that is computed at that time, whatever they are."""
    until = MIDNIGHT + timedelta(hours=hours, minutes=7)
    known = {key: each for key, each in minutes.items() if key[1] + MINUTE <= until}
    wild = {
        key: each if key in known else dict.fromkeys(each, 1e9) for key, each in minutes.items()
    }
    at_the_time = outcomes_of(found, as_frame(known), until)
    assert_frame_equal(outcomes_of(found, as_frame(wild), until), at_the_time, check_exact=True)
    # A horizon that was over then has the same figures later.
    later = outcomes_of(found, as_frame(minutes), END)
    for name in HORIZONS:
        was_over = at_the_time[f"missing_{name}"].is_not_null()
        columns = [each for each in later.columns if each.endswith(name)]
        assert_frame_equal(
            at_the_time.select(columns).filter(was_over), later.select(columns).filter(was_over)
        )


def test_short_gains_from_falling_price() -> None:
    """A short candidate at 100: the price falls to 80, after a high of 110 and a low of 75."""
    [candidate] = candidates(1, 2)[1:]
    assert candidate.side == "short"
    prices = {"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.0}
    minutes = {
        (candidate.symbol, candidate.open_time + (each + 1) * MINUTE): dict(prices)
        for each in range(15)
    }
    times = list(minutes)
    minutes[times[4]]["high"], minutes[times[9]]["low"] = 110.0, 75.0
    minutes[times[14]]["close"] = 80.0
    until = times[14][1] + MINUTE
    [row] = outcomes_of(candidates_frame([candidate]), as_frame(minutes), until).to_dicts()
    assert row["entry_price"] == 100.0
    assert (row["return_15m"], row["favourable_15m"], row["adverse_15m"]) == pytest.approx(
        (0.2, 0.25, -0.1)
    )
    assert (row["missing_15m"], row["missing_1h"], row["return_1h"]) == (0, None, None)


def test_delisted_symbol_says_why(minutes: Minutes, found: pl.DataFrame) -> None:
    """A symbol that ends within a horizon has the end of trading beside the count of missing minutes."""
    end = MIDNIGHT + timedelta(hours=2)
    traded = {key: each for key, each in minutes.items() if key[0] != "COIN1USDT" or key[1] < end}
    outcomes = outcomes_of(found, as_frame(traded), END, {"COIN1USDT": end, "COIN2USDT": END})
    ended = outcomes.filter(symbol="COIN1USDT")
    assert set(ended["delisted_at"]) == {end}
    assert ended["missing_4h"].min() > 0
    assert ended["missing_1h"].max() == 0
    others = outcomes.filter(pl.col("symbol") != "COIN1USDT")
    assert others["delisted_at"].null_count() == others.height


def test_no_candidates_no_outcomes(minutes: Minutes) -> None:
    empty = candidates_frame([])
    assert_frame_equal(outcomes_of(empty, as_frame(minutes), END), outcome_schema().to_frame())
