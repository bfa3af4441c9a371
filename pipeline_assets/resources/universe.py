"""The content of exchangeInfo for each symbol, and the symbols that make up the universe.

Fetching exchangeInfo does not belong here (exchange.py), nor the choice of a run's symbols (settings, run
config), nor the times at which a symbol trades (collection/listings.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.trading_rules import TradingRules, rules_from_filters
from pipeline_assets.outside_text import printable
from pipeline_assets.settings import is_symbol

# The second is what Binance calls a perpetual that is being settled ("Contract type" in its
# documentation's common definitions).
_PERPETUAL = ("PERPETUAL", "PERPETUAL_DELIVERING")
_LATEST_MS = 253_370_764_800_000  # the year 9999, the last that a datetime holds
_NAME_SHOWN = 40

_Moment = Annotated[int, Field(ge=0, lt=_LATEST_MS)]


@dataclass(frozen=True)
class Listing:
    """One symbol as the exchange lists it. Dates are UTC.

    A perpetual that is not going to be delisted has a delivery date in the year 2100. The onboard date
    is a hint: the first candle may be earlier or later.
    """

    symbol: str
    onboard_date: datetime
    delivery_date: datetime
    status: str
    contract_type: str
    quote_asset: str
    underlying_type: str

    @property
    def trading(self) -> bool:
        """Whether it belongs to the universe: a USDT perpetual on a coin that trades now."""
        return self.contract_type == "PERPETUAL" and self.status == "TRADING" and self.collectable

    @property
    def collectable(self) -> bool:
        """Whether it belongs to the universe while it trades: also one that is to trade, or did."""
        return (
            self.contract_type in _PERPETUAL
            and self.quote_asset == "USDT"
            and self.underlying_type == "COIN"
        )


@dataclass(frozen=True)
class Listings:
    """The entries of one exchangeInfo.

    Attributes:
        valid: the entries that can be relied on, in the exchange's order; no symbol twice.
        left_out: why each other entry was left out, by its symbol, or its place where it has none.
        rules: the filters of each collectable entry that has filters which can be read.
    """

    valid: list[Listing] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    rules: dict[str, TradingRules] = field(default_factory=dict)


def _symbol(name: str) -> str:
    if not is_symbol(name):
        raise ValueError("is not a symbol: symbols are capital letters, digits and _")
    return name


class _Entry(BaseModel):
    """The fields of an entry that the product relies on."""

    model_config = ConfigDict(strict=True, extra="ignore")

    symbol: Annotated[str, AfterValidator(_symbol)]
    onboard_date: Annotated[_Moment, Field(alias="onboardDate")]
    delivery_date: Annotated[_Moment, Field(alias="deliveryDate")]
    status: str
    contract_type: Annotated[str, Field(alias="contractType")]
    quote_asset: Annotated[str, Field(alias="quoteAsset")]
    underlying_type: Annotated[str, Field(alias="underlyingType")]
    pair: str | None = None

    def listing(self) -> Listing:
        """Return the listing that the entry describes."""
        return Listing(
            symbol=self.symbol,
            onboard_date=from_milliseconds(self.onboard_date),
            delivery_date=from_milliseconds(self.delivery_date),
            status=self.status,
            contract_type=self.contract_type,
            quote_asset=self.quote_asset,
            underlying_type=self.underlying_type,
        )


def read_listings(exchange_info: Mapping[str, Any]) -> Listings:
    """Read the decoded body of `GET /fapi/v1/exchangeInfo`, each entry by itself.

    One odd entry of five hundred once stopped all of them. An entry that is malformed, or whose name
    contradicts its pair or belongs to an earlier entry, is left out and named.

    Raises:
        KeyError: the body has no `symbols`.
    """
    found: dict[str, Listing] = {}
    refused: list[tuple[int, Any, str]] = []
    rules: dict[str, TradingRules] = {}
    for place, entry in enumerate(exchange_info["symbols"]):
        try:
            read = _Entry.model_validate(entry)
        except ValidationError as error:
            refused.append((place, entry, _why(error)))
            continue
        # A dated contract is its pair, an underscore and the date.
        if read.pair is not None and read.symbol.partition("_")[0] != read.pair:
            refused.append((place, entry, f"its pair is {printable(read.pair)[:_NAME_SHOWN]!r}"))
        elif read.symbol in found:
            refused.append((place, entry, f"an earlier entry is {read.symbol} too"))
        else:
            found[read.symbol] = read.listing()
            rules |= _rules(entry, found[read.symbol])
    left_out: dict[str, str] = {}
    for place, entry, why in refused:
        name = _name(entry, place)
        left_out[f"{name} (entry {place})" if name in found or name in left_out else name] = why
    return Listings(list(found.values()), left_out, rules)


def _rules(entry: Mapping[str, Any], listing: Listing) -> dict[str, TradingRules]:
    """Return the filters of an entry by its symbol; none if it is not collected, or cannot be read."""
    try:
        return {listing.symbol: rules_from_filters(entry)} if listing.collectable else {}
    # A backtest names the symbol whose filters are not known; nothing else needs these.
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        return {}


def _name(entry: Any, place: int) -> str:
    """Return how to call an entry that was left out; its own name may be of any length and kind."""
    name = entry.get("symbol") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name.strip():
        return f"entry {place}"
    return name if is_symbol(name) else repr(printable(name)[:_NAME_SHOWN])


def _why(error: ValidationError) -> str:
    """Return the first fault of an entry: field, problem, and the value where it is short."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"])) or "entry"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{field} is missing"
    return f"{field}: {message} (got {printable(repr(first['input']))[:_NAME_SHOWN]})"


def trading_symbols(listings: Iterable[Listing]) -> list[str]:
    """Return the universe: every symbol that trades now as a USDT perpetual on a coin, sorted."""
    return sorted(listing.symbol for listing in listings if listing.trading)
