"""The daily comparison of an account's ledger with the exchange's history: both sides are read, compared by
ledger_differences.py, and the result is stored.

- `reconciliations/{account}/{yyyyMMdd}.json`: the day's result; made again, it replaces the earlier one.

The ledger is read from its copy on the lake (record_copy.py), so the gateway may be stopped or elsewhere. The
gateway's own comparison, once a minute, is in reconciling.py.
"""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec

from pipeline_assets.collection.findings import Finding, Table
from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import DAY, to_milliseconds
from pipeline_assets.market.trading_rules import decimal, units
from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings, TradingSettings
from pipeline_assets.trading.binance_history import read_account_day
from pipeline_assets.trading.ledger_differences import (
    AccountDay,
    DayFill,
    Difference,
    differences,
)
from pipeline_assets.trading.record_news import merge_documents
from pipeline_assets.trading.record_objects import Kind, read_records
from pipeline_assets.wording import counted

RECONCILIATIONS = "reconciliations/"
# Binance keeps trades and income for three months; the day before the last is no longer whole.
_KEPT = timedelta(days=88)
# An account's documents come up to half a minute after its records; the exchange's history may be late too.
_SETTLES = timedelta(minutes=5)
_REMEDY = (
    "Halt the gateway if it trades, and find the cause before more is booked (docs/trading.md, section "
    '"Comparing a day").'
)


class DayNotEndedError(InputError):
    """The day has not ended yet, so neither side is complete."""


class DayReconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a day.

    Attributes:
        account: whose.
        venue: paper, demo or live.
        day: UTC.
        skipped: why nothing was compared; empty if the day was compared.
        differences: every one.
        fills: how many the exchange has.
        fees: of the exchange's fills, in the quote asset.
        payments: how many funding payments the exchange has.
        funding: the sum of the exchange's payments.
        other_income: the exchange's other income, as text by kind and asset; the ledger books none of it.
    """

    account: str
    venue: str
    day: date
    skipped: str = ""
    differences: list[Difference] = []
    fills: int = 0
    fees: str = "0"
    payments: int = 0
    funding: str = "0"
    other_income: dict[str, str] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as it is stored."""
        return dict(msgspec.to_builtins(self))

    def finding(self) -> Finding:
        """Return the result as a check's: nothing to compare with is no failure on paper only."""
        if self.skipped:
            return Finding(self.venue == "paper", f"Not compared. {self.skipped}", self.figures())
        fills, payments = counted(self.fills, "fill"), counted(self.payments, "funding payment")
        compared = f"{fills} and {payments}"
        if not self.differences:
            agreed = f"The ledger agrees with the exchange: {compared}, fees included."
            return Finding(True, agreed, self.figures())
        kinds = Counter(each.what for each in self.differences)
        parts = ", ".join(f"{kind}: {number}" for kind, number in sorted(kinds.items()))
        text = f"{counted(len(self.differences), 'difference')} from the exchange's {compared} ({parts})."
        return Finding(False, f"{text} {_REMEDY}", self.figures())

    def figures(self) -> dict[str, Any]:
        """Return the figures as a person wants to see them."""
        columns = dict.fromkeys(("what", "symbol", "id", "ledger", "exchange"), "string")
        rows = [[getattr(each, name) for name in columns] for each in self.differences]
        found: dict[str, Any] = {"account": self.account, "venue": self.venue}
        if self.skipped:
            return found | {"not compared": self.skipped}
        return found | {
            "differences": len(self.differences),
            "each difference": Table.of(columns, rows),
            "fills": self.fills,
            "fees": float(self.fees),
            "funding payments": self.payments,
            "funding": float(self.funding),
            "other income, in no ledger": Table.of(
                {"kind": "string", "amount": "string"}, self.other_income.items()
            ),
        }


def result_key(account: str, day: date) -> str:
    """Return the key of a day's result."""
    return f"{RECONCILIATIONS}{account}/{day:%Y%m%d}.json"


def reconcile_day(
    settings: Settings, store: ObjectStore, day: date, now: datetime
) -> DayReconciliation:
    """Compare a day, store the result and return it. Repeated, it compares again.

    Raises:
        DayNotEndedError: the day has not ended.
        CredentialsMissingError: the settings have no key of the account.
        OutsideSystemError: the exchange, Redis or the lake does not answer; see the message.
    """
    start = datetime.combine(day, time(), UTC)
    if now < start + DAY + _SETTLES:
        raise DayNotEndedError(
            f"{day} cannot be compared before {start + DAY + _SETTLES:%Y-%m-%d %H:%M} UTC: name a day that "
            "has ended."
        )
    trading = settings.trading
    skipped = _why_skipped(trading, start, now)
    if skipped:
        result = DayReconciliation(
            account=trading.account, venue=trading.venue, day=day, skipped=skipped
        )
    else:
        result = _compared(settings, store, day, start)
    store.put(result_key(trading.account, day), msgspec.json.encode(result))
    return result


def _why_skipped(trading: TradingSettings, start: datetime, now: datetime) -> str:
    if trading.venue == "paper":
        return "The venue is paper: fills are made of candles here, and no exchange has a history of them."
    if now - start > _KEPT:
        return f"Binance keeps trades and income for three months: {start:%Y-%m-%d} cannot be read whole."
    return ""


def _compared(
    settings: Settings, store: ObjectStore, day: date, start: datetime
) -> DayReconciliation:
    trading = settings.trading
    ledger, symbols = _ledger(store, trading, day)
    exchange, others = asyncio.run(_ask(settings, start, symbols))
    found = differences(ledger, exchange)
    if found and merge_documents(store, day):
        # The sensor that makes the daily objects is off or behind.
        ledger, _ = _ledger(store, trading, day)
        found = differences(ledger, exchange)
    return DayReconciliation(
        account=trading.account,
        venue=trading.venue,
        day=day,
        fills=len(exchange.fills),
        payments=len(exchange.payments),
        fees=str(decimal(sum(each.fee for each in exchange.fills.values()))),
        funding=str(decimal(sum(exchange.payments.values()))),
        differences=found,
        other_income={name: str(decimal(amount)) for name, amount in sorted(others.items())},
    )


def _ledger(
    store: ObjectStore, trading: TradingSettings, day: date
) -> tuple[AccountDay, frozenset[str]]:
    """Return the day by the copy of the ledger, and the symbols that had orders, fills or payments."""
    rows = {}
    for kind in (Kind.ORDERS, Kind.FILLS, Kind.FUNDING):
        read = read_records(store, kind, day).to_dicts()
        rows[kind] = [
            row
            for row in read
            if (row["account"], row["venue"]) == (trading.account, trading.venue)
        ]
    fills = {
        (row["symbol"], row["trade_id"]): DayFill(
            row["side"], units(row["quantity"]), units(row["price"]), units(row["fee"])
        )
        for row in rows[Kind.FILLS]
    }
    payments = {
        (row["symbol"], to_milliseconds(row["paid_at"])): units(row["amount"])
        for row in rows[Kind.FUNDING]
    }
    symbols = frozenset(row["symbol"] for each in rows.values() for row in each)
    return AccountDay(fills, payments), symbols


async def _ask(
    settings: Settings, start: datetime, symbols: frozenset[str]
) -> tuple[AccountDay, dict[str, int]]:
    # Behind all that trades or collects: the answer has time until the day's report.
    async with AccountClient(settings, priority=Priority.FINALIZE) as account:
        await account.synchronize()
        first = to_milliseconds(start)
        return await read_account_day(account, first, to_milliseconds(start + DAY), symbols)
