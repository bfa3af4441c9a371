from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.gap_causes import Cause, Evidence, gap_causes, span_frame, spans
from pipeline_assets.market.gaps import Expected, expected_frame, gaps
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets_tests.examples import examples

START = datetime(2026, 10, 25, tzinfo=UTC)
SLOTS = 24
SYMBOLS = ("AAAUSDT", "BBBUSDT", "币安人生USDT")
TIME = pl.Datetime("us", "UTC")
SPANS = {Interval.ONE_MINUTE: 60, Interval.FIFTEEN_MINUTES: 900, Interval.ONE_HOUR: 3600}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOTHING = span_frame({})
EVIDENCE = tuple(field.name for field in fields(Evidence))
numbers = st.sets(st.integers(0, SLOTS - 1))


def points(interval: Interval, held: dict[str, set[int]]) -> pl.DataFrame:
    step = timedelta(seconds=SPANS[interval])
    rows = [(symbol, START + n * step) for symbol, slots in held.items() for n in sorted(slots)]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "open_time": TIME}, orient="row")


def found_causes(
    stored: dict[str, set[int]],
    *,
    interval: Interval = Interval.ONE_MINUTE,
    listed: dict[str, int] | None = None,
    delisted: dict[str, int] | None = None,
    newest: int = SLOTS - 1,
    **evidence: dict[str, set[int]],
) -> dict[str, dict[int, str]]:
    """Return the cause by symbol and slot; check on the way that no run could be longer."""
    step = timedelta(seconds=SPANS[interval])
    window = Window(START, START + SLOTS * step)
    whole = Expected(START, window.end - step, SLOTS)
    missing = gaps(points(interval, stored), interval, expected_frame(dict.fromkeys(stored, whole)))
    known = {name: spans(points(interval, evidence.get(name, {})), interval) for name in EVIDENCE}
    lifetimes = {
        symbol: (
            START + (listed or {}).get(symbol, -9) * step,
            START + delisted[symbol] * step if symbol in (delisted or {}) else None,
        )
        for symbol in stored
    }
    frame = gap_causes(
        missing, interval, window, lifetimes, START + newest * step, Evidence(**known)
    )
    reported: dict[str, dict[int, str]] = {symbol: {} for symbol in stored}
    before = None
    for symbol, name, first, last, count, cause in frame.rows():
        assert name == interval.value
        low, high = (first - START) // step, (last - START) // step
        assert (START + low * step, START + high * step) == (first, last)
        assert count == high - low + 1 > 0
        assert before is None or before[:2] < (symbol, low)
        assert before != (symbol, low - 1, cause), "neighbours of one cause must be one gap"
        assert not reported[symbol].keys() & set(range(low, high + 1))
        reported[symbol] |= dict.fromkeys(range(low, high + 1), cause)
        before = (symbol, high, cause)
    return reported


everything = set(range(SLOTS))


@settings(max_examples=examples(60))
@given(st.data())
def test_first_matching_cause_is_given(data) -> None:
    """Each missing candle has the first cause that holds."""
    symbols = data.draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))
    by_symbol = st.fixed_dictionaries(dict.fromkeys(symbols, numbers))
    stored = data.draw(by_symbol)
    listed = data.draw(st.dictionaries(st.sampled_from(symbols), st.integers(-3, SLOTS + 3)))
    delisted = data.draw(st.dictionaries(st.sampled_from(symbols), st.integers(-3, SLOTS + 3)))
    newest = data.draw(st.integers(-2, SLOTS + 2))
    evidence = {name: data.draw(by_symbol) for name in EVIDENCE}

    reported = found_causes(
        stored,
        interval=data.draw(st.sampled_from(Interval)),
        listed=listed,
        delisted=delisted,
        newest=newest,
        **evidence,
    )

    def search(symbol: str, slot: int) -> str:
        nobody = all(slot not in held for held in stored.values())
        witnesses = [each for each in symbols if slot in evidence["fetched"][each]]
        for cause, is_so in [
            ("not_listed", slot < listed.get(symbol, -9) or slot >= delisted.get(symbol, 99)),
            ("not_listed", slot in evidence["between_listings"][symbol]),
            ("still_open", slot > newest),
            ("invalid", slot in evidence["invalid"][symbol]),
            ("set_aside", slot in evidence["rejected"][symbol]),
            ("exchange_outage", slot in evidence["confirmed_empty"][symbol]),
            ("archive_hole", slot in evidence["archive_holes"][symbol]),
            ("exchange_outage", nobody and len(witnesses) >= 2),
        ]:
            if is_so:
                return cause
        return "not_fetched"

    assert reported == {
        symbol: {slot: search(symbol, slot) for slot in everything - stored[symbol]}
        for symbol in symbols
    }


def test_complete_candles_give_empty_gaps() -> None:
    """Complete candles have no gaps, in a frame of the same shape."""
    lifetimes = {"AAAUSDT": (LONG_AGO, None)}
    window = Window(START, START + timedelta(hours=1))
    nothing = Evidence(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
    found = gap_causes(NOTHING, Interval.ONE_MINUTE, window, lifetimes, window.end, nothing)
    assert found.is_empty()
    assert found.schema == pl.Schema(
        {
            "symbol": pl.String,
            "interval": pl.String,
            "first": TIME,
            "last": TIME,
            "count": pl.Int64,
            "cause": pl.String,
        }
    )


def test_common_outage_differs_from_symbol_hole() -> None:
    """An outage of all symbols is distinguished from a hole of one symbol."""
    outage, own = set(range(5, 9)), {14}
    stored = {"AAAUSDT": everything - outage - own, "BBBUSDT": everything - outage}
    reported = found_causes(stored, fetched=dict.fromkeys(stored, everything))
    assert reported == {
        "AAAUSDT": dict.fromkeys(outage, Cause.EXCHANGE_OUTAGE) | {14: Cause.NOT_FETCHED},
        "BBBUSDT": dict.fromkeys(outage, Cause.EXCHANGE_OUTAGE),
    }


@pytest.mark.parametrize(
    "fetched", [{}, {"AAAUSDT": everything}, {"AAAUSDT": everything, "ZZZUSDT": everything}]
)
def test_single_witness_proves_no_outage(fetched) -> None:
    """Candles that no run fetched, or only runs for one symbol, are no outage."""
    reported = found_causes({"AAAUSDT": set(), "BBBUSDT": set()}, fetched=fetched)
    assert reported == dict.fromkeys(
        ("AAAUSDT", "BBBUSDT"), dict.fromkeys(everything, Cause.NOT_FETCHED)
    )


def test_repeated_fetch_is_one_witness() -> None:
    """A symbol fetched twice is one witness."""
    twice = pl.concat([span_frame({"AAAUSDT": [Window(START, START + timedelta(hours=1))]})] * 2)
    window = Window(START, START + timedelta(hours=1))
    missing = span_frame(dict.fromkeys(("AAAUSDT", "BBBUSDT"), (window,)))
    found = gap_causes(
        missing,
        Interval.ONE_MINUTE,
        window,
        dict.fromkeys(("AAAUSDT", "BBBUSDT"), (LONG_AGO, None)),
        window.end,
        Evidence(twice, NOTHING, NOTHING, NOTHING, NOTHING),
    )
    assert found["cause"].to_list() == [Cause.NOT_FETCHED] * 2


def test_listing_within_candle_includes_it() -> None:
    """A listing within a candle begins with that candle."""
    window = Window(START, START + timedelta(hours=4))
    listed_at = START + timedelta(hours=2, minutes=20)
    found = gap_causes(
        span_frame({"AAAUSDT": [window]}),
        Interval.ONE_HOUR,
        window,
        {"AAAUSDT": (listed_at, None)},
        window.end,
        Evidence(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING),
    )
    hour = timedelta(hours=1)
    assert found.select("first", "last", "count", "cause").rows() == [
        (START, START + hour, 2, "not_listed"),
        (START + 2 * hour, START + 3 * hour, 2, "not_fetched"),
    ]


@given(st.sampled_from(Interval), numbers, st.integers(0, 59), st.randoms())
def test_spans_hold_touched_candles(interval, slots, late, order) -> None:
    """Spans hold the candles in which their times lie."""
    frame = points(interval, {"AAAUSDT": slots})
    moved = frame.with_columns(pl.col("open_time") + timedelta(seconds=late))
    shuffled = pl.concat([frame, moved]).rows()
    order.shuffle(shuffled)
    given_times = pl.DataFrame(shuffled, schema=frame.schema, orient="row")
    step = timedelta(seconds=SPANS[interval])
    held: set[int] = set()
    ends = []
    for _, start, end in spans(given_times, interval).rows():
        held |= set(range((start - START) // step, (end - START) // step))
        ends.append((start, end))
    assert held == slots
    assert all(start > end for (_, end), (start, _) in pairwise(ends))


def test_month_of_500_symbols_gets_causes() -> None:
    """The causes of a month of 500 symbols are named.

    The size that the ledger has to bear; a quadratic join would not end here.
    """
    month = Window(START, START + timedelta(days=31))
    symbols = [f"S{number:03}USDT" for number in range(500)]
    hour = timedelta(hours=1)
    outage = Window(START + 50 * hour, START + 52 * hour)
    # Every symbol has 40 gaps of its own beside the outage that all have.
    own = [
        (symbol, START + (60 + 15 * n) * hour + timedelta(minutes=place))
        for place, symbol in enumerate(symbols)
        for n in range(40)
    ]
    rows = [(symbol, at, at + timedelta(minutes=7)) for symbol, at in own]
    rows += [(symbol, outage.start, outage.end) for symbol in symbols]
    missing = pl.DataFrame(rows, schema=NOTHING.schema, orient="row")
    found = gap_causes(
        missing,
        Interval.ONE_MINUTE,
        month,
        dict.fromkeys(symbols, (LONG_AGO, None)),
        month.end,
        Evidence(span_frame(dict.fromkeys(symbols, (month,))), NOTHING, NOTHING, NOTHING, NOTHING),
    )
    counted = found.group_by("cause").agg(pl.len(), pl.col("count").sum()).sort("cause").rows()
    assert counted == [
        ("exchange_outage", 500, 500 * 120),
        ("not_fetched", 500 * 40, 500 * 40 * 7),
    ]
