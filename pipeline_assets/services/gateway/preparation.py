"""The command `pipeline-assets gateway prepare`: it opens the account, and binance_setup.py sets it up."""

import asyncio

from pipeline_assets.errors import InputError
from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.services.gateway.switches import require_account
from pipeline_assets.settings import Settings
from pipeline_assets.trading.binance_setup import prepare_account


class NothingToPrepareError(InputError):
    """There is no account to set up, or no list of symbols. The message names the setting."""


def prepare_symbols(settings: Settings, live_account: str | None) -> list[str]:
    """Set the symbols of the settings up; return a line for each change.

    Raises:
        LiveRefusedError: the venue is live, and the account was not named.
        NothingToPrepareError: the venue is paper, or the settings name no symbols.
        OutsideSystemError: Binance refuses a change, or does not answer.
    """
    if settings.trading.venue == "paper":
        raise NothingToPrepareError(
            "The paper venue has no leverage to set. Example: PIPELINE_TRADING__VENUE=demo"
        )
    if settings.symbols == "all":
        raise NothingToPrepareError(
            "PIPELINE_SYMBOLS=all names no symbols: list those that are to be traded."
        )
    require_account(settings, live_account)
    changed = asyncio.run(_prepare(settings, settings.symbols))
    return changed or ["Every symbol is set up as the settings say; nothing was changed."]


async def _prepare(settings: Settings, symbols: tuple[str, ...]) -> list[str]:
    async with AccountClient(settings) as account:
        await account.synchronize()
        return await prepare_account(account, settings.trading, symbols)
