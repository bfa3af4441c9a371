"""The requests of both doors, checked for form: texts are bounded, numbers are decimal text. Whether an
order is allowed is decided in trading/.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline_assets.market.trading_rules import units
from pipeline_assets.settings import is_symbol
from pipeline_assets.trading.order_types import Order

# Ten digits keep the count of 1e-8 within 64 bits, which the journal's records need.
_DECIMAL = r"^[0-9]{1,10}(\.[0-9]{1,8})?$"
_DECIMALS = ("quantity", "price", "stop_part")
# Pydantic's types of problems.
_NO_DECIMAL = ("string_type", "string_pattern_mismatch")


def _without_dot_segments(name: str) -> str:
    """Refuse a name that HTTP clients would shorten in an address: `a/../b` would name the order `b`."""
    if {".", ".."} & set(name.split("/")):
        raise ValueError("must not have . or .. alone, or alone between slashes")
    return name


def _plain(text: str) -> str:
    """Refuse control and direction characters, which logs and terminals would obey."""
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


Id = Annotated[
    str,
    Field(pattern=r"^[.A-Z:/a-z0-9_-]{1,36}$", examples=["decision-1"]),
    AfterValidator(_without_dot_segments),
]
Reason = Annotated[
    str, Field(min_length=1, max_length=200, examples=["maintenance"]), AfterValidator(_plain)
]
_Label = Annotated[str, Field(max_length=100), AfterValidator(_plain)]


def _checked_symbol(name: str) -> str:
    if not is_symbol(name):
        raise ValueError("symbols are 1 to 40 capital letters, digits and _")
    return name


Symbol = Annotated[
    str, Field(min_length=1, max_length=40, examples=["BTCUSDT"]), AfterValidator(_checked_symbol)
]


class Request(BaseModel):
    """The base of all requests: an unknown field is an error, and a number is no text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OrderRequest(Request):
    """An order; the same again is the same order."""

    client_id: Id
    symbol: Symbol
    side: Literal["buy", "sell"]
    kind: Literal["market", "limit", "stop"]
    quantity: str = Field(pattern=_DECIMAL, examples=["0.001"])
    price: str = Field("", pattern=rf"{_DECIMAL}|^$", examples=["65000.10"])
    reduce_only: bool = False
    strategy: _Label = ""
    decision_id: _Label = ""
    parent: _Label = ""
    leverage: int = Field(0, ge=0, le=125)
    stop_part: str = Field("", pattern=rf"{_DECIMAL}|^$", examples=["0.02"])

    def order(self) -> Order:
        """Return the order in the gateway's own units."""
        return Order(
            client_id=self.client_id,
            symbol=self.symbol,
            side=self.side,
            kind=self.kind,
            quantity=units(self.quantity),
            price=units(self.price or 0),
            reduce_only=self.reduce_only,
            strategy=self.strategy,
            decision_id=self.decision_id,
            parent=self.parent,
            leverage=self.leverage,
            stop_part=units(self.stop_part or 0),
        )


class CloseRequest(Request):
    """The wish to close a symbol's position; a repeated `close_id` is the same close."""

    symbol: Symbol
    close_id: Id
    reason: Reason


class ModeRequest(Request):
    """The wish to halt or to resume: why, and who says so."""

    reason: Reason
    by: Reason = "api"


class ResumeRequest(ModeRequest):
    """The wish to resume the gateway, or the entries of one halted symbol."""

    symbol: Annotated[str, Field(max_length=40), AfterValidator(_checked_symbol)] | Literal[""] = ""


class FlattenRequest(ModeRequest):
    """The wish to cancel and close everything; a repeated `close_id` is the same flatten."""

    close_id: Id


class FillsRequest(Request):
    """Which of the newest fills to return."""

    # In an address every value is text.
    model_config = ConfigDict(strict=False)

    symbol: Annotated[str, Field(max_length=40)] = ""
    limit: int = Field(500, ge=1, le=5000)


class EventsRequest(Request):
    """The sequence number of the last event that the caller has."""

    after: int = Field(0, ge=0, lt=2**53)


def problems_of(error: ValidationError) -> str:
    """Return what is wrong with a request, in one line. The values are not repeated."""
    return described(error.errors(include_url=False, include_context=False, include_input=False))


def described(problems: Iterable[Mapping[str, Any]]) -> str:
    """Return pydantic's problems in one line, each with its field."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {_said(each)}" for each in problems)


def _said(problem: Mapping[str, Any]) -> str:
    if problem["loc"] and problem["loc"][-1] in _DECIMALS and problem["type"] in _NO_DECIMAL:
        # The pattern itself tells a person nothing.
        return 'must be decimal text such as "0.001"'
    return str(problem["msg"]).removeprefix("Value error, ")
