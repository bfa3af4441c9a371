"""Rows of the daily objects of trading records, made of the documents of trader and gateway. The objects and
their columns are in record_objects.py.
"""

import json
from datetime import datetime

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.account_records import (
    AccountRecords,
    FillRecord,
    FundingRecord,
    OrderRecord,
)
from pipeline_assets.trading.decisions import Decision, Intent
from pipeline_assets.trading.record_objects import Kind, Row, columns_of


def decision_row(decision: Decision) -> Row:
    """Return a decision as a row."""
    candidate = decision.candidate
    return {
        "id": decision.id,
        "candidate_id": candidate.id,
        **{name: getattr(candidate, name) for name in ("strategy", "version", "symbol", "side")},
        "interval": candidate.interval.value,
        "open_time": candidate.open_time,
        "price": candidate.price,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "author": decision.author,
        "decided_at": decision.decided_at,
        "model": decision.model,
        "probability": decision.probability,
        "expected_value": decision.expected_value,
        "reasons": _reasons_text(decision),
    }


def intent_row(intent: Intent, minute: datetime) -> Row:
    """Return an intent as a row; `minute` is the open time of its candidate's candle."""
    return intent.model_dump(exclude={"schema_version"}) | {"open_time": minute}


def order_row(document: AccountRecords, order: OrderRecord) -> Row:
    """Return an order as a row; a market order has no price."""
    return _account_row(Kind.ORDERS, document, order) | ({} if order.price else {"price": None})


def fill_row(document: AccountRecords, fill: FillRecord) -> Row:
    """Return a fill as a row."""
    return _account_row(Kind.FILLS, document, fill)


def funding_row(document: AccountRecords, payment: FundingRecord) -> Row:
    """Return a funding payment as a row."""
    return _account_row(Kind.FUNDING, document, payment)


def _reasons_text(decision: Decision) -> str | None:
    """Return the reasons of a model as JSON, as the column holds them; None without a judgement."""
    if decision.reasons is None:
        return None
    return json.dumps([each.model_dump() for each in decision.reasons], separators=(",", ":"))


def _account_row(
    kind: Kind, document: AccountRecords, record: OrderRecord | FillRecord | FundingRecord
) -> Row:
    columns = columns_of(kind)
    row: Row = {name: getattr(record, name, None) for name in columns}
    row |= {
        "account": document.account,
        "venue": document.venue,
        "copy_begun": document.copy_begun,
    }
    readers = {"money": decimal, "time": from_milliseconds}
    for name, each in columns.items():
        if each in readers and row[name] is not None:
            row[name] = readers[each](row[name])
    return row
