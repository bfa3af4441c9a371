"""The endpoints that change an account's settings: position mode, assets mode, leverage, margin."""

from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import events, fields
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.doors import Call, Route
from pipeline_assets.local.exchange.accounts.margin import LARGEST_LEVERAGE, largest_notional
from pipeline_assets.local.exchange.accounts.model import CROSSED, ISOLATED, ZERO, Account
from pipeline_assets.local.exchange.accounts.order_routes import always
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.parameters import mandatory

Row = dict[str, Any]
DONE = {"code": 200, "msg": "success"}


def position_mode(call: Call) -> Row:
    """GET positionSide/dual."""
    return {"dualSidePosition": call.account.dual_side}


def wanted_mode(call: Call, name: str, current: bool, unchanged: int) -> bool:
    """Return the mode that a request asks for, which must not be the current one."""
    mandatory(call.query, name)
    wanted = fields.flag(call.query, name)
    if wanted == current:
        raise refused(unchanged)
    return wanted


def change_position_mode(call: Call) -> Row:
    """POST positionSide/dual."""
    account = call.account
    wanted = wanted_mode(call, "dualSidePosition", account.dual_side, -4059)
    if account.open_orders or account.open_algos:
        raise refused(-4067)
    if account.held():
        raise refused(-4068)
    account.dual_side = wanted
    return DONE


def assets_mode(call: Call) -> Row:
    """GET multiAssetsMargin."""
    return {"multiAssetsMargin": call.account.multi_assets}


def change_assets_mode(call: Call) -> Row:
    """POST multiAssetsMargin."""
    wanted = wanted_mode(call, "multiAssetsMargin", call.account.multi_assets, -4171)
    call.account.multi_assets = wanted
    call.desk.emit(call.account, events.multi_assets_changed(wanted, call.desk.now))
    return DONE


def fee_burn(call: Call) -> Row:
    """GET feeBurn: whether fees are paid in BNB."""
    return {"feeBurn": call.account.fee_burn}


def change_leverage(call: Call) -> Row:
    """POST leverage."""
    symbol = call.desk.contract(mandatory(call.query, "symbol")).symbol
    mandatory(call.query, "leverage")
    wanted = fields.whole(call.query, "leverage") or 0
    set_leverage(call.desk, call.account, symbol, wanted)
    return {
        "symbol": symbol,
        "leverage": wanted,
        "maxNotionalValue": str(largest_notional(wanted)),
    }


def set_leverage(desk: Desk, owner: Account, symbol: str, wanted: int) -> None:
    """Change a symbol's leverage and report it.

    Raises:
        ApiError: -4028, -2027 or -2028.
    """
    if not 1 <= wanted <= LARGEST_LEVERAGE:
        raise refused(-4028, wanted)
    position = owner.position(symbol)
    if abs(position.amount) * desk.mark(symbol) > largest_notional(wanted):
        raise refused(-2027)
    before, position.leverage = position.leverage, wanted
    if position.amount and wanted < before:
        asset = desk.asset_of(symbol)
        margin = desk.margin(owner)
        bound = sum((margin.position_margin(each) for each in margin.positions(asset)), ZERO)
        if bound > margin.cross_equity(asset):
            position.leverage = before
            raise refused(-2028)
    if wanted != before:
        desk.emit(owner, events.leverage_changed(symbol, wanted, desk.now))


def change_margin_type(call: Call) -> Row:
    """POST marginType."""
    symbol = call.desk.contract(mandatory(call.query, "symbol")).symbol
    mandatory(call.query, "marginType")
    wanted = fields.choice(call.query, "marginType", (CROSSED, ISOLATED), "")
    position = call.account.position(symbol)
    if position.margin_type == wanted:
        raise refused(-4046)
    if any(order.symbol == symbol for order in call.account.open_orders.values()):
        raise refused(-4047)
    if position.amount:
        raise refused(-4048)
    position.margin_type = wanted
    return DONE


def change_position_margin(call: Call) -> Row:
    """POST positionMargin: type 1 adds to an isolated position's margin, 2 takes from it."""
    symbol = call.desk.contract(mandatory(call.query, "symbol")).symbol
    mandatory(call.query, "amount")
    amount, way = fields.number(call.query, "amount"), mandatory(call.query, "type")
    position = call.account.position(symbol)
    if way not in ("1", "2"):
        raise errors.invalid_parameter("type")
    if amount <= 0:
        raise refused(-4055)
    if not position.amount or not position.isolated:
        raise refused(-4054)
    margin, asset = call.desk.margin(call.account), call.desk.asset_of(symbol)
    spare = margin.available(asset)
    if way == "2":
        spare = position.isolated_wallet - margin.position_margin(position)
    if amount > spare:
        raise refused(-2019 if way == "1" else -4051)
    position.isolated_wallet += amount if way == "1" else -amount
    shown = [(position, call.desk.mark(symbol))]
    update = events.account_update(
        call.account, "MARGIN_TRANSFER", call.desk.now, {asset: ZERO}, shown
    )
    call.desk.emit(call.account, update)
    return {
        "amount": float(amount),
        "code": 200,
        "msg": "Successfully modify position margin.",
        "type": int(way),
    }


ROUTES = [
    Route("GET", "/fapi/v1/positionSide/dual", always(30), position_mode),
    Route("POST", "/fapi/v1/positionSide/dual", always(1), change_position_mode),
    Route("GET", "/fapi/v1/multiAssetsMargin", always(30), assets_mode),
    Route("POST", "/fapi/v1/multiAssetsMargin", always(1), change_assets_mode),
    Route("GET", "/fapi/v1/feeBurn", always(30), fee_burn),
    Route("POST", "/fapi/v1/leverage", always(1), change_leverage),
    Route("POST", "/fapi/v1/marginType", always(1), change_margin_type),
    Route("POST", "/fapi/v1/positionMargin", always(1), change_position_margin),
]
