"""Setting leverage and margin type of an account's symbols to what the settings say, when a person asks.
A gateway changes neither; the check at its start is in binance_checks.py.
"""

from collections.abc import Collection
from http import HTTPStatus

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.binance_account import (
    AccountClient,
    Parameters,
    json_of,
)
from pipeline_assets.resources.binance_endpoints import (
    SET_LEVERAGE,
    SET_MARGIN_TYPE,
    SYMBOL_CONFIG,
    Endpoint,
)
from pipeline_assets.settings import TradingSettings
from pipeline_assets.trading.binance_answers import KEY_ADVICE, problem_of
from pipeline_assets.trading.binance_orders import setups_of

_WORDS = {"isolated": "ISOLATED", "cross": "CROSSED"}
# "No need to change margin type."
_UNCHANGED = -4046


class SetupRefusedError(OutsideSystemError):
    """Binance refused a change. Earlier changes stay; the call may be repeated."""


async def prepare_account(
    account: AccountClient, trading: TradingSettings, symbols: Collection[str]
) -> list[str]:
    """Set leverage and margin type where these differ; return a line for each change and each
    symbol that the venue does not have. Safe to repeat.

    Raises:
        SetupRefusedError: a symbol has a position or an open order, or does not allow the leverage.
        OutsideSystemError: Binance does not answer.
    """
    reply = await account.ask(SYMBOL_CONFIG)
    if reply.status != HTTPStatus.OK:
        problem = problem_of(reply.status, reply.body)
        raise SetupRefusedError(
            f"Binance does not say how the symbols are set up: {problem}. {KEY_ADVICE}"
        )
    held = setups_of(json_of(reply))
    changed = []
    for symbol in sorted(set(symbols) & held.keys()):
        if held[symbol].margin_type != trading.margin_type:
            word = _WORDS[trading.margin_type]
            await _change(account, SET_MARGIN_TYPE, {"symbol": symbol, "marginType": word})
            changed.append(
                f"{symbol}: margin type {held[symbol].margin_type} → {trading.margin_type}"
            )
        if held[symbol].leverage != trading.leverage:
            wanted: Parameters = {"symbol": symbol, "leverage": trading.leverage}
            await _change(account, SET_LEVERAGE, wanted)
            changed.append(f"{symbol}: leverage {held[symbol].leverage} → {trading.leverage}")
    return changed + [
        f"{symbol}: not at the venue. Leave it out of PIPELINE_SYMBOLS"
        for symbol in sorted(set(symbols) - held.keys())
    ]


async def _change(account: AccountClient, endpoint: Endpoint, wanted: Parameters) -> None:
    reply = await account.ask(endpoint, wanted)
    problem = problem_of(reply.status, reply.body)
    if reply.status != HTTPStatus.OK and problem.code != _UNCHANGED:
        raise SetupRefusedError(
            f"{wanted['symbol']}: Binance refused {endpoint.path}: {problem}. Close the symbol's position "
            "and orders first, or choose what the symbol allows."
        )
