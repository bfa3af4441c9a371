"""The result of decisions: who decided, and what each trade earned by its fills. Both are read from the daily
objects of record_objects.py; what the results say about a model is in research/drift.py.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.trading.decisions import LOW_VALUE
from pipeline_assets.trading.model_decider import AUTHOR
from pipeline_assets.trading.order_ids import entry_id
from pipeline_assets.trading.record_objects import Kind, read_records, schema_of

if TYPE_CHECKING:
    import polars as pl


# Rows, and by key what is wrong with an object that was left out.
_Read = tuple["pl.DataFrame", Mapping[str, str]]


def read_day(store: ObjectStore, day: date) -> _Read:
    """Return a day's decisions, with `by_model` and `judged`; and by key what is wrong with a damaged object.

    `by_model` says whether the inference service decided, `judged` whether a model gave the probability. A
    damaged object has no rows.

    Raises:
        ObjectStoreError: S3 refuses.
    """
    import polars as pl

    rows, damaged = _read(store, Kind.DECISIONS, day)
    by_model = pl.col("author") == AUTHOR
    accepted_or_refused = (pl.col("verdict") == "accept") | (pl.col("reason") == LOW_VALUE)
    return rows.with_columns(by_model=by_model, judged=by_model & accepted_or_refused), damaged


def read_trades(store: ObjectStore, account: str, days: Sequence[date]) -> _Read:
    """Return the trades of an account that were opened within some days, as `trades_of` makes them; and by
    key what is wrong with damaged objects, whose fills are missing.

    Raises:
        ObjectStoreError: S3 refuses.
    """
    import polars as pl

    read = store.each(lambda day: _read(store, Kind.FILLS, day), days)
    fills = pl.concat(rows for rows, _ in read).filter(account=account)
    return trades_of(fills), {key: why for _, each in read for key, why in each.items()}


def _read(store: ObjectStore, kind: Kind, day: date) -> _Read:
    try:
        return read_records(store, kind, day), {}
    except DamagedObjectError as error:
        return schema_of(kind).to_frame(), {error.key: str(error)}


def trades_of(fills: "pl.DataFrame") -> "pl.DataFrame":
    """Return one row a trade: `decision_id` and `net_return`, null unless its own orders closed all of it.

    The net return is per unit of the entry's value, after fees. Funding is not in fills. A position that a
    person closed, or the exchange, has exits without a decision, so its trade has no net return.

    Args:
        fills: of one account.
    """
    import polars as pl

    entries = {each: entry_id(each) for each in fills["decision_id"].unique() if each}
    known = fills.filter(pl.col("decision_id").is_in(list(entries)))
    is_entry = pl.col("client_id") == pl.col("decision_id").replace_strict(
        entries, return_dtype=pl.String
    )
    value = pl.col("quantity").cast(pl.Float64) * pl.col("price").cast(pl.Float64)
    found = known.group_by("decision_id").agg(
        entered=pl.col("quantity").filter(is_entry).sum(),
        exited=pl.col("quantity").filter(~is_entry).sum(),
        entry_value=value.filter(is_entry).sum(),
        exit_value=value.filter(~is_entry).sum(),
        fees=pl.col("fee").cast(pl.Float64).sum(),
        bought=(pl.col("side").filter(is_entry) == "buy").any(),
    )
    gain = pl.col("exit_value") - pl.col("entry_value")
    result = pl.when("bought").then(gain).otherwise(-gain) - pl.col("fees")
    closed = pl.col("entered") == pl.col("exited")
    return (
        # Without its entry, a trade was opened before the first of these days.
        found.filter(pl.col("entered") > 0)
        .with_columns(net_return=pl.when(closed).then(result / pl.col("entry_value")))
        .select("decision_id", "net_return")
        .sort("decision_id")
    )
