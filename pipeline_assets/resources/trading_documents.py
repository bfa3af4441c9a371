"""Filters and fees on the lake, kept at each change with the time they were first seen. Their meaning is in
market/trading_rules.py; exchangeInfo is read in universe.py.

`state/trading_rules.json`: {symbol: [[since ms, {rule: decimal text, brackets: […]}], …]}; and
`state/fees.json`: [[since ms, maker, taker], …], which a person writes (`note_fees`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from pipeline_assets.market.intervals import from_milliseconds, to_milliseconds
from pipeline_assets.market.trading_rules import (
    Bracket,
    Dated,
    Fees,
    TradingDocuments,
    TradingRules,
)
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    Symbol,
    left_out_alone,
    read_document,
    require,
    update_document,
)
from pipeline_assets.resources.object_store import ObjectStore

_RULES_KEY = "state/trading_rules.json"
_FEES_KEY = "state/fees.json"
_NUMBERS = (
    *("tick_size", "step_size", "min_quantity", "max_quantity", "min_notional", "liquidation_fee"),
)


def _read_rules(held: Any) -> Dated[TradingRules]:
    since, values = held
    brackets = tuple(Bracket(*(Decimal(part) for part in each)) for each in values["brackets"])
    numbers = {name: Decimal(require(values[name], str)) for name in _NUMBERS}
    if min(numbers["tick_size"], numbers["step_size"]) <= 0 or not brackets:
        raise ValueError("a tick or step is not above 0, or there is no bracket")
    return Dated(from_milliseconds(require(since, int)), TradingRules(brackets=brackets, **numbers))


def _written_rules(dated: Dated[TradingRules]) -> list[Any]:
    rules = dated.value
    values: dict[str, Any] = {name: str(getattr(rules, name)) for name in _NUMBERS}
    values["brackets"] = [
        [str(each.notional), str(each.rate), str(each.amount)] for each in rules.brackets
    ]
    return [to_milliseconds(dated.since), values]


def _read_fees(held: Any) -> Dated[Fees]:
    since, maker, taker = held
    return Dated(from_milliseconds(require(since, int)), Fees(Decimal(maker), Decimal(taker)))


def _written_fees(dated: Dated[Fees]) -> list[Any]:
    return [to_milliseconds(dated.since), str(dated.value.maker), str(dated.value.taker)]


_DatedRules = Annotated[
    Dated[TradingRules], PlainValidator(_read_rules), PlainSerializer(_written_rules)
]
_DatedFees = Annotated[Dated[Fees], PlainValidator(_read_fees), PlainSerializer(_written_fees)]
_Rules = dict[Symbol, list[_DatedRules]]
_RULES: TypeAdapter[_Rules] = TypeAdapter(Annotated[_Rules, left_out_alone()], config=DEFERRED)
_FEES: TypeAdapter[list[_DatedFees]] = TypeAdapter(list[_DatedFees], config=DEFERRED)


def read_trading_documents(store: ObjectStore, symbols: Sequence[str]) -> TradingDocuments:
    """Return what is known of these symbols' rules, and of fees; nothing where nothing was stored."""
    rules = read_document(store, _RULES_KEY, _RULES) or {}
    fees = read_document(store, _FEES_KEY, _FEES) or []
    return TradingDocuments({each: rules[each] for each in symbols if each in rules}, fees)


def note_trading_rules(
    store: ObjectStore, seen: Mapping[str, TradingRules], seen_at: datetime
) -> None:
    """Keep the rules that differ from those kept last, from `seen_at` (UTC) on.

    Idempotent, and safe beside other observers: nothing is written where nothing is new. Symbols that
    are not seen keep their rules, as backtests need those of delisted symbols.
    """

    def change(held: _Rules | None) -> _Rules:
        kept = dict(held or {})
        for symbol, rules in seen.items():
            dated = kept.get(symbol, [])
            if not dated or (dated[-1].value != rules and dated[-1].since < seen_at):
                kept[symbol] = [*dated, Dated(seen_at, rules)]
        return dict(sorted(kept.items()))

    update_document(store, _RULES_KEY, _RULES, change)


def note_fees(store: ObjectStore, fees: Fees, seen_at: datetime) -> None:
    """Keep the account's fees if they differ from those kept last, from `seen_at` (UTC) on."""

    def change(held: list[Dated[Fees]] | None) -> list[Dated[Fees]]:
        kept = list(held or [])
        if kept and (kept[-1].value == fees or kept[-1].since >= seen_at):
            return kept
        return [*kept, Dated(seen_at, fees)]

    update_document(store, _FEES_KEY, _FEES, change)
