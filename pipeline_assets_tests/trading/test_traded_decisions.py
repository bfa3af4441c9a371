"""The results of decisions: net returns by fills, and which trades have none."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decider import AUTHOR as TRADER
from pipeline_assets.trading.record_objects import Kind, schema_of
from pipeline_assets.trading.traded_decisions import read_day, read_trades, trades_of
from pipeline_assets_tests.fixtures.drifting import (
    DAY,
    decide,
    decisions,
    fill,
    trade,
    trade_all,
)
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket

LONG, SHORT = decisions(candidates(symbols=2), [""])


def returns(fills: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the net return by decision."""
    return dict(trades_of(pl.DataFrame(fills, schema_of(Kind.FILLS), orient="row")).rows())


def test_net_return_is_after_fees() -> None:
    """Both sides earn 3 of 100 and pay two fees of 0.1."""
    found = returns([*trade(LONG, 1, 3.0), *trade(SHORT, 3, 3.0)])
    assert found == {LONG.id: pytest.approx(0.028), SHORT.id: pytest.approx(0.028)}


def test_open_trade_has_no_return() -> None:
    """An entry alone, a part of an exit, and a position that a person closed."""
    entry, closed = trade(LONG, 1, 3.0)
    assert returns([entry]) == {LONG.id: None}
    assert returns([entry, closed | {"quantity": closed["quantity"] / 2}]) == {LONG.id: None}
    assert returns([entry, closed | {"decision_id": "", "client_id": "by hand"}]) == {LONG.id: None}


def test_exit_without_entry_is_no_trade() -> None:
    """The trade was opened before the first day that is read."""
    assert returns(trade(LONG, 1, 3.0)[1:]) == {}
    assert returns([]) == {}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(90, 110)), min_size=1, max_size=6))
def test_partial_fills_add_up(parts: list[tuple[int, int]]) -> None:
    """Exits in parts, in any order, earn what their sums earn."""
    total = sum(quantity for quantity, _ in parts)
    entry = trade(LONG, 1, None)[0] | {"quantity": total}
    exits = [
        fill(LONG, MIDNIGHT, "sell", price, entry=False, trade_id=2 + number)
        | {"quantity": quantity}
        for number, (quantity, price) in enumerate(parts)
    ]
    earned = sum(quantity * (price - 100) for quantity, price in parts) - 0.1 * (len(parts) + 1)
    for fills in ([entry, *exits], [*reversed(exits), entry]):
        assert returns(fills) == {LONG.id: pytest.approx(earned / (100 * total))}


def test_trades_are_of_one_account(s3_bucket: S3Bucket) -> None:
    """A trade may be closed on another day; other accounts and other days do not count."""
    store, other = ObjectStore(s3_bucket.settings()), "live"
    opened, closed = trade(LONG, 1, 3.0)
    trade_all(store, DAY, [opened, *(each | {"account": other} for each in trade(SHORT, 3, 3.0))])
    trade_all(store, DAY + timedelta(days=1), [closed])
    both = [DAY, DAY + timedelta(days=1)]
    assert read_trades(store, "paper", both)[0].rows() == [(LONG.id, pytest.approx(0.028))]
    assert read_trades(store, "paper", both[:1])[0].rows() == [(LONG.id, None)]
    assert read_trades(store, other, both)[0]["decision_id"].to_list() == [SHORT.id]
    assert read_trades(store, "demo", both)[0].is_empty()


@pytest.mark.parametrize("trader", [False, True])
def test_judged_are_of_the_service(s3_bucket: S3Bucket, trader: bool) -> None:
    """A model judged what was accepted or has a low value; the trader's own decisions have no model."""
    store = ObjectStore(s3_bucket.settings())
    assert read_day(store, DAY)[0].is_empty()
    made = decide(store, ["", "low_value", "no_model"], *([TRADER] if trader else []))
    rows, _ = read_day(store, DAY)
    assert rows["by_model"].to_list() == [not trader] * len(made)
    assert rows["judged"].sum() == (0 if trader else 160)
