"""The check of an account before a gateway trades on it: its modes, the symbols' leverage, the key's rights,
the clock. It changes nothing: what is wrong is named with its fix, and the gateway does not start.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pipeline_assets.errors import InputError, OutsideSystemError
from pipeline_assets.resources.binance_account import (
    AccountClient,
    json_of,
)
from pipeline_assets.resources.binance_endpoints import (
    ACCOUNT_CONFIG,
    FEE_BURN,
    KEY_RIGHTS,
    POSITIONS,
    SYMBOL_CONFIG,
    Endpoint,
)
from pipeline_assets.settings import TradingSettings
from pipeline_assets.trading.binance_answers import KEY_ADVICE, problem_of
from pipeline_assets.trading.binance_orders import SymbolSetup, setups_of
from pipeline_assets.trading.binance_replies import reading

# Both clocks are estimates from round trips. Timestamps follow the venue's; ages and waits the market's.
_LARGEST_OFFSET_MS = 3_000
_NAMED = 5


class AccountUnfitError(InputError):
    """The account, the key or the clock is not as the settings say. The message has a line for each fix."""


class AccountUnreadableError(OutsideSystemError):
    """Binance does not say how the account is set up. The message has its answer."""


async def check_account(
    account: AccountClient,
    trading: TradingSettings,
    symbols: Collection[str],
    market_time: Callable[[], int],
) -> list[str]:
    """Return what a person should know, if nothing speaks against trading.

    A symbol with an open position may have another leverage or margin type: somebody must be able to close
    it, and its entries are refused one by one.

    Args:
        account: with the venue's time measured.
        trading: what the account must be.
        symbols: that are traded.
        market_time: the time in milliseconds by which the gateway decides.

    Raises:
        AccountUnfitError: something must be set right first.
        AccountUnreadableError, UnansweredError, VenueReplyError: the account cannot be read.
    """
    wrong: list[str] = []
    notes: list[str] = []
    offset = abs(account.now() - market_time())
    if offset > _LARGEST_OFFSET_MS:
        wrong.append(
            f"the venue's clock and the market's differ by {offset} ms: take both addresses from one "
            "exchange (PIPELINE_BINANCE__REST_URL, PIPELINE_TRADING__REST_URL)"
        )
    with reading("the account"):
        wrong += _of_account(await _required(account, ACCOUNT_CONFIG))
        held = _held(await _required(account, POSITIONS))
        setups = setups_of(await _required(account, SYMBOL_CONFIG))
        wrong += _of_symbols(setups, trading, set(symbols) - held)
        notes += _of_symbols(setups, trading, set(symbols) & held)
        wrong += await _of_fees(account, trading, notes)
        wrong += await _of_key(account, trading, notes)
    if wrong:
        lines = "".join(f"\n  - {each}." for each in wrong)
        raise AccountUnfitError(
            f"The {trading.venue} account {trading.account} is not set up as the settings say:{lines}"
        )
    return notes


async def _required(account: AccountClient, endpoint: Endpoint) -> Any:
    found, problem = await _read(account, endpoint)
    if problem:
        raise AccountUnreadableError(
            f"{account.addresses.rest_url} does not say how the account is set up ({endpoint.path}): "
            f"{problem}. {KEY_ADVICE}"
        )
    return found


async def _read(account: AccountClient, endpoint: Endpoint) -> tuple[Any, str]:
    """Return the body, or why there is none."""
    reply = await account.ask(endpoint)
    if reply.status != HTTPStatus.OK:
        return None, str(problem_of(reply.status, reply.body))
    return json_of(reply), ""


def _held(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the symbols with an open position, in hedge mode too."""
    return {str(row["symbol"]) for row in rows if float(row["positionAmt"])}


def _of_account(row: Mapping[str, Any]) -> list[str]:
    found = []
    if row["canTrade"] is not True:
        found.append(
            "the account or the key may not trade futures: enable futures for both in Binance's settings"
        )
    if row["dualSidePosition"] is not False:
        found.append("the account is in hedge mode: set Position Mode to One-way")
    if row["multiAssetsMargin"] is not False:
        found.append("the account is in multi-assets mode: set Asset Mode to Single-Asset")
    return found


def _of_symbols(
    setups: Mapping[str, SymbolSetup], trading: TradingSettings, symbols: Collection[str]
) -> list[str]:
    found = []
    live = f" --live {trading.account}" if trading.venue == "live" else ""
    for name, setting in (("leverage", "leverage"), ("margin type", "margin_type")):
        wanted = getattr(trading, setting)
        others = [
            f"{symbol} {getattr(setups[symbol], setting)}"
            for symbol in sorted(symbols)
            if symbol in setups and getattr(setups[symbol], setting) != wanted
        ]
        if others:
            found.append(
                f"the {name} is not {wanted} ({_some(others)}): run `pipeline-assets gateway "
                f"prepare{live}`, or set PIPELINE_TRADING__{setting.upper()} to what the account has"
            )
    missing = sorted(set(symbols) - setups.keys())
    if missing:
        found.append(f"the venue has no {_some(missing)}: leave these out of PIPELINE_SYMBOLS")
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


async def _of_fees(account: AccountClient, trading: TradingSettings, notes: list[str]) -> list[str]:
    row, wrong = await _optional(account, trading, FEE_BURN, "whether fees are paid in BNB", notes)
    if row is not None and row["feeBurn"] is not False:
        wrong.append(
            "fees are paid in BNB, which the ledger cannot book: switch that off for futures"
        )
    return wrong


async def _of_key(account: AccountClient, trading: TradingSettings, notes: list[str]) -> list[str]:
    """Check the rights of the key. The demo has no such endpoint; there the key can withdraw nothing."""
    if account.addresses.key_url is None:
        notes.append("the rights of the key were not checked: the demo does not tell these")
        return []
    row, wrong = await _optional(account, trading, KEY_RIGHTS, "which rights the key has", notes)
    if row is not None and row["enableWithdrawals"] is not False:
        wrong.append("the key may withdraw money: make another one without that right")
    if row is not None and row["enableFutures"] is not True:
        wrong.append("the key may not trade futures: give it the right Enable Futures")
    return wrong


async def _optional(
    account: AccountClient,
    trading: TradingSettings,
    endpoint: Endpoint,
    what: str,
    notes: list[str],
) -> tuple[Any, list[str]]:
    """Return the body, or None: not knowing is wrong on live, and a note elsewhere."""
    row, problem = await _read(account, endpoint)
    if not problem:
        return row, []
    if trading.venue == "live":
        setting = "KEY_URL" if endpoint is KEY_RIGHTS else "REST_URL"
        return None, [
            f"{what} is not known ({problem}): try again, or check PIPELINE_TRADING__{setting}"
        ]
    notes.append(f"{what} was not checked ({problem})")
    return None, []
