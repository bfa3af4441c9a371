"""The differences between a gateway's ledger and the exchange's history of one UTC day. Pure: how both are
read is in day_reconciliation.py.

Quantities, prices and money are whole numbers of 1e-8, as in order_types.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline_assets.market.trading_rules import decimal

What = Literal["fill", "fee", "funding payment"]
NOTHING = "nothing"
# Symbol and trade id; symbol and time in milliseconds.
FillKey = tuple[str, int]
PaymentKey = tuple[str, int]


@dataclass(frozen=True)
class DayFill:
    """A fill as far as it is compared.

    Attributes:
        side: buy or sell.
        quantity: in 1e-8.
        price: in 1e-8.
        fee: in 1e-8 of the quote asset.
        other_fee: a fee in another asset, as "0.001 BNB"; the ledger books none.
    """

    side: str
    quantity: int
    price: int
    fee: int
    other_fee: str = ""

    @property
    def trade(self) -> str:
        """Side, quantity and price, as text."""
        return f"{self.side} {_number(self.quantity)} at {_number(self.price)}"

    @property
    def paid(self) -> str:
        """The fee, as text."""
        return self.other_fee or _number(self.fee)


@dataclass(frozen=True)
class AccountDay:
    """One side of the comparison.

    Attributes:
        fills: by symbol and trade id.
        payments: funding payments by symbol and time, in 1e-8; negative where the account paid.
        charges: other money that the exchange took or gave by itself, as a liquidation's fee: by name and
            symbol, in 1e-8. The ledger books none.
    """

    fills: Mapping[FillKey, DayFill]
    payments: Mapping[PaymentKey, int]
    charges: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One fill, fee or funding payment that the two sides do not have alike.

    Attributes:
        what: of the three.
        symbol: whose.
        id: the trade id, the payment's time in milliseconds, or the name of a charge.
        ledger: what the ledger has.
        exchange: what the exchange has.
    """

    what: What
    symbol: str
    id: str
    ledger: str
    exchange: str


def differences(ledger: AccountDay, exchange: AccountDay) -> list[Difference]:
    """Return every difference, by symbol and id; none if the ledger is right."""
    found = [*_of_fills(ledger, exchange), *_of_payments(ledger, exchange)]
    for (name, symbol), amount in exchange.charges.items():
        found.append(Difference("fee", symbol, name, NOTHING, _number(amount)))
    return sorted(found, key=lambda each: (each.symbol, each.what, each.id))


def _of_fills(ledger: AccountDay, exchange: AccountDay) -> Iterable[Difference]:
    for symbol, trade_id in ledger.fills.keys() | exchange.fills.keys():
        own = ledger.fills.get((symbol, trade_id))
        theirs = exchange.fills.get((symbol, trade_id))
        trades = [NOTHING if each is None else each.trade for each in (own, theirs)]
        if trades[0] != trades[1]:
            yield Difference("fill", symbol, str(trade_id), *trades)
        if own and theirs and own.paid != theirs.paid:
            yield Difference("fee", symbol, str(trade_id), own.paid, theirs.paid)


def _of_payments(ledger: AccountDay, exchange: AccountDay) -> Iterable[Difference]:
    for symbol, time in ledger.payments.keys() | exchange.payments.keys():
        amounts = [each.payments.get((symbol, time)) for each in (ledger, exchange)]
        if amounts[0] != amounts[1]:
            shown = [NOTHING if each is None else _number(each) for each in amounts]
            yield Difference("funding payment", symbol, str(time), *shown)


def _number(units: int) -> str:
    """Return a number without zeros at its end, so that both sides are written alike."""
    return f"{decimal(units).normalize():f}"
