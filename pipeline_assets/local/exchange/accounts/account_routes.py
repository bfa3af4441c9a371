"""The endpoints of accounts, positions, income, and listen keys. Settings change in setting_routes.py."""

from functools import partial
from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import fields
from pipeline_assets.local.exchange.accounts.account_views import (
    account_config,
    account_view,
    balance_rows,
    position_symbols,
    risk_row,
)
from pipeline_assets.local.exchange.accounts.desk import MAKER_FEE, TAKER_FEE
from pipeline_assets.local.exchange.accounts.doors import Call, Route
from pipeline_assets.local.exchange.accounts.margin import (
    BRACKETS,
    DEDUCTIONS,
    largest_notional,
)
from pipeline_assets.local.exchange.accounts.order_limits import LIMITS
from pipeline_assets.local.exchange.accounts.order_routes import always, of_symbol, wanted_symbol
from pipeline_assets.local.exchange.accounts.views import income_view
from pipeline_assets.local.exchange.parameters import mandatory, requested_limit

Row = dict[str, Any]
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
