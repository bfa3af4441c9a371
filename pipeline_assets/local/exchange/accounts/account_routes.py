"""The endpoints of accounts, positions, their settings, income, and listen keys."""

from functools import partial
from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import events, fields
from pipeline_assets.local.exchange.accounts.account_views import (
    account_config,
    account_view,
    balance_rows,
    position_symbols,
    risk_row,
)
from pipeline_assets.local.exchange.accounts.desk import MAKER_FEE, TAKER_FEE, Desk
from pipeline_assets.local.exchange.accounts.doors import Call, Route
from pipeline_assets.local.exchange.accounts.margin import (
    BRACKETS,
    DEDUCTIONS,
    LARGEST_LEVERAGE,
    largest_notional,
)
from pipeline_assets.local.exchange.accounts.model import (
    CROSSED,
    ISOLATED,
    ZERO,
    Account,
)
from pipeline_assets.local.exchange.accounts.order_limits import LIMITS
from pipeline_assets.local.exchange.accounts.order_routes import always, of_symbol, wanted_symbol
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.accounts.views import income_view
from pipeline_assets.local.exchange.parameters import mandatory, requested_limit

Row = dict[str, Any]
DONE = {"code": 200, "msg": "success"}
LARGEST_INCOMES = 1000


def account(version: int, call: Call) -> Row:
    """GET account."""
    return account_view(call.desk, call.account, version)


def balance(call: Call) -> list[Row]:
    """GET balance."""
    return balance_rows(call.desk, call.account)


def position_risk(version: int, call: Call) -> list[Row]:
    """GET positionRisk: version 2 shows every contract, version 3 those with a position or order."""
    symbol = wanted_symbol(call)
    symbols = position_symbols(call.desk, call.account, every=version == 2)
    return [
        risk_row(call.desk, call.account, call.account.position(each), version)
        for each in symbols
        if symbol in (None, each)
    ]


def account_settings(call: Call) -> Row:
    """GET accountConfig."""
    return account_config(call.desk, call.account, dual=True)


def symbol_settings(call: Call) -> list[Row]:
    """GET symbolConfig."""
    symbol = wanted_symbol(call)
    held = [call.account.position(each) for each in call.desk.market.contracts]
    return [
        {
            "symbol": each.symbol,
            "marginType": each.margin_type,
            "isAutoAddMargin": False,
            "leverage": each.leverage,
            "maxNotionalValue": str(largest_notional(each.leverage)),
        }
        for each in held
        if symbol in (None, each.symbol)
    ]


def position_mode(call: Call) -> Row:
    """GET positionSide/dual."""
    return {"dualSidePosition": call.account.dual_side}


def change_position_mode(call: Call) -> Row:
    """POST positionSide/dual."""
    mandatory(call.query, "dualSidePosition")
    wanted = fields.flag(call.query, "dualSidePosition")
    if wanted == call.account.dual_side:
        raise refused(-4059)
    if call.account.open_orders or call.account.open_algos:
        raise refused(-4067)
    if call.account.held():
        raise refused(-4068)
    call.account.dual_side = wanted
    return DONE


def assets_mode(call: Call) -> Row:
    """GET multiAssetsMargin."""
    return {"multiAssetsMargin": call.account.multi_assets}


def change_assets_mode(call: Call) -> Row:
    """POST multiAssetsMargin."""
    mandatory(call.query, "multiAssetsMargin")
    wanted = fields.flag(call.query, "multiAssetsMargin")
    if wanted == call.account.multi_assets:
        raise refused(-4171)
    call.account.multi_assets = wanted
    call.desk.emit(call.account, events.multi_assets_changed(wanted, call.desk.now))
    return DONE


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


def income(call: Call) -> list[Row]:
    """GET income: the newest rows of the span, or its first page from `startTime` on."""
    query, now_ms = call.query, call.desk.now
    symbol, kind = wanted_symbol(call), query.get("incomeType")
    limit = requested_limit(query, 100, LARGEST_INCOMES)
    page = max(1, fields.whole(query, "page") or 1)
    start, end = fields.whole(query, "startTime"), fields.whole(query, "endTime")
    last = now_ms if end is None else end
    first = last - fields.LONGEST_WINDOW if start is None else start
    if first > last:
        raise errors.reversed_times()
    oldest = now_ms - 90 * fields.DAY_MS
    rows = [
        income_view(each)
        for each in call.account.incomes
        if max(first, oldest) <= each.time <= last
        and symbol in (None, each.symbol)
        and kind in (None, each.kind)
    ]
    return rows[(page - 1) * limit : page * limit] if start is not None else rows[-limit:]


def commission(call: Call) -> Row:
    """GET commissionRate."""
    return {
        "symbol": call.desk.contract(mandatory(call.query, "symbol")).symbol,
        "makerCommissionRate": str(MAKER_FEE),
        "takerCommissionRate": str(TAKER_FEE),
    }


def brackets(call: Call) -> Row | list[Row]:
    """GET leverageBracket."""
    symbol = wanted_symbol(call)
    rows = [
        {
            "bracket": place + 1,
            "initialLeverage": leverage,
            "notionalCap": cap,
            "notionalFloor": floor,
            "maintMarginRatio": float(rate),
            "cum": float(DEDUCTIONS[place]),
        }
        for place, (leverage, floor, cap, rate) in enumerate(BRACKETS)
    ]
    symbols = [symbol] if symbol else list(call.desk.market.contracts)
    return [{"symbol": each, "notionalCoef": 1.5, "brackets": rows} for each in symbols]


def trading_status(call: Call) -> Row:
    """GET apiTradingStatus: no violation, ever."""
    return {"indicators": {}, "updateTime": call.desk.now}


def order_limits(_call: Call) -> list[Row]:
    """GET rateLimit/order."""
    return [
        {
            "rateLimitType": "ORDERS",
            "interval": text.split()[1],
            "intervalNum": int(text.split()[0]),
            "limit": limit,
        }
        for _, text, _, limit in LIMITS
    ]


def restrictions(call: Call) -> Row:
    """GET apiRestrictions: what the key may do."""
    owner = call.account
    return {
        "ipRestrict": owner.ip_restricted,
        "createTime": 0,
        "enableReading": True,
        "enableWithdrawals": owner.can_withdraw,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": owner.can_trade,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": False,
        "enablePortfolioMarginTrading": False,
    }


def open_listen_key(call: Call) -> Row:
    """POST listenKey."""
    return {"listenKey": call.streams.open_key(call.account.key, call.desk.now)}


def keep_listen_key(call: Call) -> Row:
    """PUT listenKey."""
    return {"listenKey": call.streams.keep(call.account.key, call.desk.now)}


def close_listen_key(call: Call) -> Row:
    """DELETE listenKey."""
    call.streams.close_key(call.account.key)
    return {}


ROUTES = [
    Route("GET", "/fapi/v2/account", always(5), partial(account, 2)),
    Route("GET", "/fapi/v3/account", always(5), partial(account, 3)),
    Route("GET", "/fapi/v2/balance", always(5), balance),
    Route("GET", "/fapi/v3/balance", always(5), balance),
    Route("GET", "/fapi/v2/positionRisk", always(5), partial(position_risk, 2)),
    Route("GET", "/fapi/v3/positionRisk", always(5), partial(position_risk, 3)),
    Route("GET", "/fapi/v1/accountConfig", always(5), account_settings),
    Route("GET", "/fapi/v1/symbolConfig", always(5), symbol_settings),
    Route("GET", "/fapi/v1/positionSide/dual", always(30), position_mode),
    Route("POST", "/fapi/v1/positionSide/dual", always(1), change_position_mode),
    Route("GET", "/fapi/v1/multiAssetsMargin", always(30), assets_mode),
    Route("POST", "/fapi/v1/multiAssetsMargin", always(1), change_assets_mode),
    Route("POST", "/fapi/v1/leverage", always(1), change_leverage),
    Route("POST", "/fapi/v1/marginType", always(1), change_margin_type),
    Route("POST", "/fapi/v1/positionMargin", always(1), change_position_margin),
    Route("GET", "/fapi/v1/income", always(30), income),
    Route("GET", "/fapi/v1/commissionRate", always(20), commission),
    Route("GET", "/fapi/v1/leverageBracket", always(1), brackets),
    Route("GET", "/fapi/v1/apiTradingStatus", of_symbol(1, 10), trading_status),
    Route("GET", "/fapi/v1/rateLimit/order", always(1), order_limits),
    Route("GET", "/sapi/v1/account/apiRestrictions", always(1), restrictions),
    Route("POST", "/fapi/v1/listenKey", always(1), open_listen_key, "key"),
    Route("PUT", "/fapi/v1/listenKey", always(1), keep_listen_key, "key"),
    Route("DELETE", "/fapi/v1/listenKey", always(1), close_listen_key, "key"),
]
