"""The figures of a day's decisions, intents, orders, fills or funding payments, and of an account, as people
want to see them. Reading and merging are in record_objects.py; how figures are shown is decided by the
caller.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.findings import Table, moment
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.account_records import AccountRecords
from pipeline_assets.trading.order_types import UNSETTLED
from pipeline_assets.trading.record_objects import Kind

if TYPE_CHECKING:
    import polars as pl

Figures = dict[str, Any]
# In place of a strategy's name.
BY_HAND = "by hand"


def day_figures(kind: Kind, rows: "pl.DataFrame") -> Figures:
    """Return the figures of a day's rows, of which there is at least one."""
    return _FIGURES[kind](rows)


def account_figures(document: AccountRecords) -> Figures:
    """Return the account as it stood when the document was made; money in the quote asset."""
    held = document.summary
    symbols = sorted(held.positions.keys() | held.exposure.keys())
    columns = {"symbol": "string", "quantity": "float", "exposure": "float"}
    records = [
        (each, _float(held.positions.get(each, 0)), _float(held.exposure.get(each, 0)))
        for each in symbols
    ]
    return {
        "account": document.account,
        "venue": document.venue,
        "as of": moment(from_milliseconds(document.at)),
        "mode": held.mode,
        "mode reason": held.mode_reason,
        "open positions": len(held.positions),
        "positions and open orders": Table.of(columns, records),
        "gross exposure (USDT)": _float(held.gross_exposure),
        "result (USDT)": _float(held.result),
        "day result (USDT)": _float(held.day_result),
        "fees (USDT)": _float(held.fees),
        "funding (USDT)": _float(held.funding),
        "open orders": held.open_orders,
        "unknown orders": held.unknown_orders,
    }


def _decisions(rows: "pl.DataFrame") -> Figures:
    import polars as pl

    shown = rows.with_columns(pl.col("probability", "expected_value").round(4))
    return {
        **_parts(rows, "decisions", "verdict", {"accept": "accepted", "decline": "declined"}),
        "newest decisions": _newest(
            shown,
            "open_time",
            (
                *("symbol", "strategy", "side", "verdict", "reason"),
                *("probability", "expected_value", "model"),
            ),
        ),
        "by verdict and reason": _counts(rows, "verdict", "reason"),
        "by strategy": _counts(rows, "strategy", "verdict"),
    }


def _intents(rows: "pl.DataFrame") -> Figures:
    parts = {each: each for each in ("sent", "skipped")}
    counts = _counts(rows, "action", "outcome", "reason")
    return {**_parts(rows, "intents", "outcome", parts), "by action and reason": counts}


def _orders(rows: "pl.DataFrame") -> Figures:
    return {
        "orders": rows.height,
        "not at an end": int(rows["status"].is_in([each.value for each in UNSETTLED]).sum()),
        "by state": _counts(rows, "status", "reason"),
        "by strategy": _counts(_with_authors(rows), "strategy", "kind"),
        **_span(rows, "sent_at", "sent"),
    }


def _fills(rows: "pl.DataFrame") -> Figures:
    import polars as pl

    # Figures to look at: the exact amounts are in the object.
    shown = rows.with_columns(pl.col("quantity", "price", "fee").cast(pl.Float64()))
    value = pl.col("quantity") * pl.col("price")
    by_symbol = shown.group_by("symbol").agg(
        fills=pl.len(),
        bought=value.filter(pl.col("side") == "buy").sum(),
        sold=value.filter(pl.col("side") == "sell").sum(),
        fees=pl.col("fee").sum(),
    )
    columns = {
        "symbol": "string",
        "fills": "int",
        "bought": "float",
        "sold": "float",
        "fees": "float",
    }
    return {
        "fills": rows.height,
        "newest fills": _newest(
            _with_authors(shown),
            "filled_at",
            ("symbol", "strategy", "side", "quantity", "price", "fee"),
        ),
        "symbols": by_symbol.height,
        "value (USDT)": _amount(shown.select(value).to_series()),
        "fees (USDT)": _amount(shown["fee"]),
        "by symbol": Table.of(
            columns, by_symbol.sort("fills", "symbol", descending=[True, False]).rows()
        ),
        **_span(rows, "filled_at", "fill"),
    }


def _funding(rows: "pl.DataFrame") -> Figures:
    import polars as pl

    shown = rows.with_columns(pl.col("amount").cast(pl.Float64()))
    return {
        "funding payments": rows.height,
        "funding (USDT)": _amount(shown["amount"]),
        "newest payments": _newest(shown, "paid_at", ("symbol", "amount")),
        **_span(rows, "paid_at", "payment"),
    }


_FIGURES: dict[Kind, Callable[["pl.DataFrame"], Figures]] = {
    Kind.DECISIONS: _decisions,
    Kind.INTENTS: _intents,
    Kind.ORDERS: _orders,
    Kind.FILLS: _fills,
    Kind.FUNDING: _funding,
}


def _newest(rows: "pl.DataFrame", time: str, columns: tuple[str, ...]) -> Table:
    """Return the newest rows, the newest first; rows of the same time keep their order."""
    types = {"time": "string"} | {
        each: "float" if rows[each].dtype.is_numeric() else "string" for each in columns
    }
    newest = rows.sort(time, descending=True, maintain_order=True).select(time, *columns)
    return Table.of(types, ((moment(at), *others) for at, *others in newest.iter_rows()))


def _with_authors(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Name orders and fills that no strategy asked for: a person did, or closed the position."""
    import polars as pl

    return rows.with_columns(strategy=pl.col("strategy").replace("", BY_HAND))


def _counts(rows: "pl.DataFrame", *names: str) -> Table:
    """Return how many rows there are of each combination of values, the most frequent first."""
    columns = dict.fromkeys(names, "string") | {"number": "int"}
    counted = (
        rows.group_by(names).len().sort("len", *names, descending=[True, *(False for _ in names)])
    )
    return Table.of(columns, counted.rows())


def _parts(rows: "pl.DataFrame", name: str, column: str, parts: dict[str, str]) -> Figures:
    """Return how many rows there are, in all and with each value, by the name to show; and their minutes."""
    counted = {shown: int((rows[column] == value).sum()) for value, shown in parts.items()}
    return {name: rows.height, **counted, **_span(rows, "open_time", "minute")}


def _span(rows: "pl.DataFrame", column: str, what: str) -> Figures:
    times = rows[column].sort()
    return {f"first {what}": moment(times[0]), f"last {what}": moment(times[-1])}


def _amount(amounts: "pl.Series") -> float:
    """Return the sum of amounts without the noise of floats: 13851.033159999997 was shown."""
    return round(float(amounts.sum()), 8)


def _float(value: int) -> float:
    return float(decimal(value))
