"""Labels of past candidates equal a backtest's trades and a calculation by hand; some have no trade."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import polars as pl
import pytest

from pipeline_assets.errors import InternalError
from pipeline_assets.market.candidates import candidate_id
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.step_tables import funding_table
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.trading_rules import Dated, Fees
from pipeline_assets.market.windows import Window
from pipeline_assets.research.candidate_history import HistoryReader
from pipeline_assets.research.labels import Labeller
from pipeline_assets.research.rules_in_effect import RulesInEffect
from pipeline_assets_tests.research.held_candles import (
    BTC_RULES,
    DAY,
    END,
    FIRST,
    HOUR,
    TWO,
    HeldCandles,
    backtest,
    by_volume,
    documents,
    minutes_of,
    rates_every,
    signalling,
    strategies,
)
from pipeline_assets_tests.research.labelled import labelled

pytestmark = pytest.mark.xdist_group("compiled")

MINUTE = timedelta(minutes=1)
REVERSING = {
    "name": "rsi_reversal",
    "rules": {"opposite_signal": "reverse", "trailing_stop": 0.002, "cool_down": 90},
}


@pytest.fixture(scope="module")
def candles() -> pl.DataFrame:
    return minutes_of(["BTCUSDT"])


@pytest.mark.parametrize("entry", [*TWO, REVERSING], ids=["barriers", "opposite", "reversing"])
def test_labels_equal_the_backtest(candles: pl.DataFrame, entry: dict[str, Any]) -> None:
    """A backtest trades the candidates that find no position: each has the label's times and return."""
    (strategy,) = strategies(entry)
    read = documents((FIRST, BTC_RULES))
    result = backtest(candles, [strategy], read_documents=read)
    trades = pl.DataFrame(pl.from_arrow(result.trades)).filter(~pl.col("open"))
    found = labelled(candles, strategy)
    joined = trades.join(found.joined(), left_on="signal_time", right_on="open_time")
    assert joined.height == trades.height > 50
    assert found.labels.height > trades.height
    for name in ("entry_time", "exit_time", "exit_reason"):
        assert joined[name].to_list() == joined[f"{name}_right"].to_list()
    assert (joined["return"] - joined["net_return"]).abs().max() < 1e-8


def by_hand(  # noqa: C901
    rows: list[dict[str, Any]], at: int, side: int, rules: Any, funding: set[Any]
) -> tuple:
    """One trade in decimals, written without the step: entry at the second open, then barriers."""
    tick, slip = Decimal("0.1"), Decimal("0.0002")

    def fill(price: float, bought: int) -> Decimal:
        moved = Decimal(str(price)) * (1 + bought * slip)
        return moved.quantize(tick, ROUND_CEILING if bought > 0 else ROUND_FLOOR)

    if at + 2 >= len(rows):
        return None, "open", None
    entry = fill(rows[at + 2]["open"], side)
    stop = entry - side * (entry * rules.stop).quantize(tick, ROUND_FLOOR)
    target = entry + side * (entry * rules.target).quantize(tick, ROUND_FLOOR)
    paid, price, fee = Decimal(0), None, Decimal("0.0005")
    for number in range(at + 2, len(rows)):
        row = rows[number]
        if number > at + 2 and row["open_time"] in funding:
            paid -= side * Decimal("0.0001") * Decimal(50_000) / entry
        opened = Decimal(str(row["open"]))
        worst, best = (row["low"], row["high"]) if side > 0 else (row["high"], row["low"])
        if number >= at + 2 + rules.time_limit:
            price, reason = fill(row["open"], -side), "time_limit"
        elif side * opened <= side * stop:
            price, reason = fill(row["open"], -side), "stop"
        elif side * opened >= side * target:
            price, reason, fee = opened, "target", Decimal("0.0002")
        elif side * Decimal(str(worst)) <= side * stop:
            price, reason = fill(float(stop), -side), "stop"
        elif side * Decimal(str(best)) >= side * target:
            price, reason, fee = target, "target", Decimal("0.0002")
        if price is not None:
            cost = Decimal("0.0005") + fee * price / entry
            net = side * (price - entry) / entry - cost + paid
            return row["open_time"], reason, float(net)
    return None, "open", None


def test_labels_equal_a_hand_calculation(candles: pl.DataFrame) -> None:
    """Stop, target, time limit, fees, slippage and funding of each candidate, overlapping ones included."""
    rules = {"stop": 0.002, "target": 0.003, "time_limit": 90, "opposite_signal": "ignore"}
    (strategy,) = strategies({"name": "macd_cross", "rules": rules})
    window = Window(FIRST + 2 * DAY, FIRST + 4 * DAY)
    found = labelled(candles, strategy, window, rates_every(1)).joined()
    inside = pl.col("open_time").is_between(window.start, window.end, closed="left")
    rows = candles.filter(inside).to_dicts()
    funding = {window.start + number * HOUR for number in range(48)}
    reasons = set()
    for row in found.iter_rows(named=True):
        at = (row["open_time"] - window.start) // MINUTE
        side = 1 if row["side"] == "long" else -1
        time, reason, net = by_hand(rows, at, side, strategy.rules, funding)
        reasons.add(reason)
        assert (row["exit_time"], row["exit_reason"] or "open") == (time, reason), row
        if net is not None:
            assert row["net_return"] == pytest.approx(net, abs=2e-9), row
            assert row["known_at"] == time + MINUTE
    assert found.height > 150
    assert reasons >= {"stop", "target", "time_limit"}


def test_past_candidates_equal_live_evaluation(candles: pl.DataFrame) -> None:
    """Same ids, sides, prices and indicators as one evaluation of the whole history, over two months."""
    (strategy,) = strategies({"name": "rsi_reversal"})
    found = labelled(candles, strategy).candidates
    history = indicators_of([strategy]).history(candles)
    live = evaluate([strategy], history, END).candidates.filter(
        pl.col("open_time").is_between(FIRST + 2 * DAY, END, closed="left")
    )
    keys = ["id", "symbol", "side", "open_time", "price"]
    assert found.height > 500
    assert found.select(keys).equals(live.select(keys))
    assert found["indicators"].str.slice(0, 12).equals(live["indicators"].str.slice(0, 12))


def outcome_of(
    frame: pl.DataFrame, reader: HeldCandles | None = None, **rules: Any
) -> dict[str, Any]:
    """The label of the first candidate."""
    return labelled(reader or frame, by_volume(**rules)).labels.to_dicts()[0]


def test_gap_leaves_no_trade(candles: pl.DataFrame) -> None:
    """An entry due in a gap is dropped, though a later signal opens a trade of its own."""
    frame = signalling(candles, {3000: 1, 3005: 1, 3400: -1})
    label = outcome_of(pl.concat([frame[:3001], frame[3004:]]))
    assert label["outcome"] == "gap"
    assert label["net_return"] is None
    assert label["known_at"] is None


def test_unended_trade_has_no_label(candles: pl.DataFrame) -> None:
    """A trade that lasts beyond the candles is open, and its return is not known."""
    assert outcome_of(signalling(candles, {3000: 1}))["outcome"] == "open"


def test_forbidden_side_has_no_label(candles: pl.DataFrame) -> None:
    """The outcome is that of the candidate, not of a later one that is traded."""
    frame = signalling(candles, {3000: -1, 3010: 1, 3400: -1})
    assert outcome_of(frame, side="long")["outcome"] == "side_not_allowed"


def test_delisting_ends_the_trade(candles: pl.DataFrame) -> None:
    """The last candle of a listing settles the position at its close, without a taker's slippage."""
    frame = signalling(candles, {3000: 1})
    listings = {"BTCUSDT": [Window(FIRST, frame["open_time"][4000])]}
    label = outcome_of(frame, HeldCandles(frame, listings))
    assert (label["outcome"], label["exit_reason"]) == ("traded", "delisting")
    assert label["exit_time"] == frame["open_time"][3999]


def test_changed_fees_count_from_their_date(candles: pl.DataFrame) -> None:
    """A fee that changes between entry and exit is paid by the fill after it alone."""
    frame = signalling(candles, {3000: 1, 3400: -1})
    free, costly = Fees(Decimal(0), Decimal(0)), Fees(Decimal(0), Decimal("0.01"))

    def read(fees: list[tuple[datetime, Fees]]) -> Any:
        def documents_of(symbols: Any) -> Any:
            found = documents((FIRST, BTC_RULES))(symbols)
            return type(found)(found.rules, [Dated(*each) for each in fees])

        return documents_of

    def net(*fees: tuple[datetime, Fees]) -> float:
        found = labelled(frame, by_volume(), funding=None, read_documents=read(list(fees)))
        return float(found.labels["net_return"][0])

    changed = net((FIRST, free), (frame["open_time"][3200], costly))
    assert net((FIRST, free)) - changed == pytest.approx(0.01, rel=0.05)
    assert net((FIRST, free)) - net((FIRST, costly)) == pytest.approx(0.02, rel=0.05)


def test_unknown_candidate_is_refused(candles: pl.DataFrame) -> None:
    """A candidate without a signal in the candles would get another one's label."""
    strategy, window = by_volume(), Window(FIRST + 2 * DAY, END)
    frame = signalling(candles, {3000: 1})
    rules = RulesInEffect(documents((FIRST, BTC_RULES))(["BTCUSDT"]), None, [strategy], window)
    history = HistoryReader(strategy, HeldCandles(frame), rules, {}).read("BTCUSDT")
    assert history is not None
    moved = pl.col("open_time") + MINUTE
    with pytest.raises(InternalError, match="candidates and signals"):
        Labeller(rules, strategy.rules).labels(
            history, history.candidates.with_columns(moved), funding_table({})
        )


def test_symbol_without_candles_is_none(candles: pl.DataFrame) -> None:
    strategy, window = by_volume(), Window(FIRST + 2 * DAY, END)
    rules = RulesInEffect(documents()(["ETHUSDT"]), None, [strategy], window)
    assert HistoryReader(strategy, HeldCandles(candles), rules, {}).read("ETHUSDT") is None


def test_ids_are_those_of_live(candles: pl.DataFrame) -> None:
    """Decisions and outcomes of live candidates join to the training data by id."""
    frame = signalling(candles, {3000: 1})
    (identity,) = labelled(frame, by_volume()).labels["id"]
    assert identity == candidate_id("by_volume", "1", "BTCUSDT", "1m", frame["open_time"][3000])
