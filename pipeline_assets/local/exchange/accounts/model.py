"""An account's content: orders, conditional orders, positions, trades, income. No rules and no I/O here."""

from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal(0)
OPEN_STATUSES = ("NEW", "PARTIALLY_FILLED")
DEFAULT_LEVERAGE = 20
CROSSED, ISOLATED = "CROSSED", "ISOLATED"
ONE_WAY = "BOTH"


def sign_of(side: str) -> int:
    """Return 1 for BUY and -1 for SELL."""
    return 1 if side == "BUY" else -1


def fixed(value: Decimal, places: int) -> str:
    """Return a decimal string with so many places, rounded to the nearest."""
    return f"{value:.{places}f}"


@dataclass(slots=True)
class Order:
    """An order of the matching engine.

    Attributes:
        kind: LIMIT, MARKET or LIQUIDATION.
        original_kind: the type as sent; of a triggered conditional order its own type.
        quote: the sum of quantity times price of its fills.
        hidden_until_ms: until then, queries do not find it.
        by_exchange: sent by the exchange itself: a liquidation, an auto-deleveraging, a settlement.
    """

    order_id: int
    client_id: str
    symbol: str
    side: str
    kind: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    time: int
    original_kind: str = ""
    reduce_only: bool = False
    close_position: bool = False
    self_trade_prevention: str = "EXPIRE_MAKER"
    working_type: str = "CONTRACT_PRICE"
    stop_price: Decimal = ZERO
    good_till: int = 0
    algo_id: int = 0
    status: str = "NEW"
    executed: Decimal = ZERO
    quote: Decimal = ZERO
    updated: int = 0
    hidden_until_ms: int = 0
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

    @property
    def sign(self) -> int:
        """1 for BUY, -1 for SELL."""
        return sign_of(self.side)


@dataclass(slots=True)
class AlgoOrder:
    """A conditional order: it waits for its trigger, and then sends an order to the matching engine.

    Attributes:
        best: of a trailing stop the best price since its activation; 0 before.
        order_id: the order that it sent, or 0.
    """

    algo_id: int
    client_id: str
    symbol: str
    side: str
    kind: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    trigger_price: Decimal
    time: int
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    self_trade_prevention: str = "EXPIRE_MAKER"
    working_type: str = "CONTRACT_PRICE"
    activation_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    good_till: int = 0
    best: Decimal = ZERO
    status: str = "NEW"
    updated: int = 0
    triggered: int = 0
    order_id: int = 0
    reason: str = ""
    hidden_until_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it still waits for its trigger."""
        return self.status == "NEW"

    @property
    def sign(self) -> int:
        """1 for BUY, -1 for SELL."""
        return sign_of(self.side)


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
