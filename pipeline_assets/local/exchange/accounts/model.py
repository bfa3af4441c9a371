"""An account's content: orders, conditional orders, positions, trades, income. No rules and no I/O here."""

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)
OPEN_STATUSES = ("NEW", "PARTIALLY_FILLED")
DEFAULT_LEVERAGE = 20
CROSSED, ISOLATED = "CROSSED", "ISOLATED"
ONE_WAY = "BOTH"


def fixed(value: Decimal, places: int) -> str:
    """Return a decimal string with so many places, rounded to the nearest."""
    return f"{value:.{places}f}"


@dataclass(slots=True, kw_only=True)
class Terms:
    """The terms that orders and conditional orders share, and how both stand.

    Attributes:
        kind: of an order LIMIT, MARKET or LIQUIDATION; of a conditional one its type as sent.
        hidden_until_ms: until then, queries do not find it.
    """

    client_id: str
    symbol: str
    side: str
    kind: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    time: int
    reduce_only: bool = False
    close_position: bool = False
    self_trade_prevention: str = "EXPIRE_MAKER"
    working_type: str = "CONTRACT_PRICE"
    good_till: int = 0
    status: str = "NEW"
    updated: int = 0
    hidden_until_ms: int = 0

    @property
    def sign(self) -> int:
        """1 for BUY, -1 for SELL."""
        return 1 if self.side == "BUY" else -1

    def terms(self) -> dict[str, Any]:
        """Return the shared terms by name, without how the order stands."""
        names = [field.name for field in fields(Terms)][:-3]
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True, kw_only=True)
class Order(Terms):
    """An order of the matching engine.

    Attributes:
        original_kind: the type as sent; of a triggered conditional order its own type.
        quote: the sum of quantity times price of its fills.
        by_exchange: sent by the exchange itself: a liquidation, an auto-deleveraging, a settlement.
    """

    order_id: int = 0
    original_kind: str = ""
    stop_price: Decimal = ZERO
    algo_id: int = 0
    """The conditional order that sent this one, or 0."""

    executed: Decimal = ZERO
    quote: Decimal = ZERO
    by_exchange: bool = False

    @property
    def remaining(self) -> Decimal:
        """The quantity that is not filled yet."""
        return self.quantity - self.executed

    @property
    def average(self) -> Decimal:
        """The average price of the fills, or 0."""
        return self.quote / self.executed if self.executed else ZERO

    @property
    def is_open(self) -> bool:
        """Whether the order can still be filled."""
        return self.status in OPEN_STATUSES


@dataclass(slots=True, kw_only=True)
class AlgoOrder(Terms):
    """A conditional order: it waits for its trigger, and then sends an order to the matching engine.

    Attributes:
        best: of a trailing stop the best price since its activation; 0 before.
        order_id: the order that it sent, or 0.
    """

    algo_id: int = 0
    trigger_price: Decimal = ZERO
    price_protect: bool = False
    activation_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    best: Decimal = ZERO
    triggered: int = 0
    order_id: int = 0
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its trigger."""
        return self.status == "NEW"


@dataclass(slots=True)
class Position:
    """The position of one symbol in one-way mode; `amount` is negative for a short one."""

    symbol: str
    amount: Decimal = ZERO
    entry: Decimal = ZERO
    leverage: int = DEFAULT_LEVERAGE
    margin_type: str = CROSSED
    isolated_wallet: Decimal = ZERO
    realized: Decimal = ZERO
    updated: int = 0
    margin_called: bool = False

    @property
    def isolated(self) -> bool:
        """Whether it has a margin of its own."""
        return self.margin_type == ISOLATED

    def unrealized(self, price: Decimal) -> Decimal:
        """Return the profit that closing at a price would make, without fees."""
        return self.amount * (price - self.entry)

    def apply(self, change: Decimal, price: Decimal) -> Decimal:
        """Apply a signed fill; return the profit that it realized."""
        before, realized = self.amount, ZERO
        closed = min(abs(before), abs(change)) if before * change < 0 else ZERO
        if closed:
            realized = closed * (price - self.entry) * (1 if before > 0 else -1)
            self.isolated_wallet -= self.isolated_wallet * closed / abs(before)
        opened = abs(change) - closed
        self.amount = before + change
        self.realized += realized
        if opened:
            kept = abs(before) - closed
            self.entry = (self.entry * kept + price * opened) / (kept + opened)
            if self.isolated:
                self.isolated_wallet += opened * price / self.leverage
        if not self.amount:
            self.entry = self.isolated_wallet = ZERO
            self.margin_called = False
        return realized


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill."""

    trade_id: int
    order_id: int
    client_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    realized: Decimal
    commission: Decimal
    commission_asset: str
    maker: bool
    time: int


@dataclass(frozen=True, slots=True)
class Income:
    """One payment: REALIZED_PNL, COMMISSION, FUNDING_FEE, INSURANCE_CLEAR or TRANSFER."""

    transaction_id: int
    kind: str
    symbol: str
    amount: Decimal
    asset: str
    time: int
    trade_id: str = ""


@dataclass(slots=True)
class Account:
    """One futures account with one API key.

    Attributes:
        wallets: the balance of each margin asset without unrealized profit; isolated margin is part of it.
        revoked: the key was deleted by its owner.
        fee_burn: the switch that pays fees in BNB. It is shown only: fees stay in the margin asset.
        posts: how often a new order with a client id arrived, whatever became of it.
    """

    key: str
    secret: str
    wallets: dict[str, Decimal]
    can_trade: bool = True
    can_withdraw: bool = False
    ip_restricted: bool = True
    revoked: bool = False
    dual_side: bool = False
    multi_assets: bool = False
    fee_burn: bool = False
    orders: dict[int, Order] = field(default_factory=dict)
    algos: dict[int, AlgoOrder] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    incomes: list[Income] = field(default_factory=list)
    posts: dict[str, int] = field(default_factory=dict)
    open_orders: dict[int, Order] = field(default_factory=dict)
    open_algos: dict[int, AlgoOrder] = field(default_factory=dict)

    def position(self, symbol: str) -> Position:
        """Return the position of a symbol, an empty one at first."""
        return self.positions.setdefault(symbol, Position(symbol))

    def held(self) -> list[Position]:
        """Return the positions that are not empty."""
        return [position for position in self.positions.values() if position.amount]

    def symbols(self) -> set[str]:
        """Return the symbols whose prices matter to this account."""
        found = {order.symbol for order in self.open_orders.values()}
        found |= {algo.symbol for algo in self.open_algos.values()}
        return found | {position.symbol for position in self.held()}
