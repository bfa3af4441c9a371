"""The switches before a gateway may trade elsewhere than on paper: live needs two, in two places, and every
risk limit set by a person. The account's own setup is checked in trading/binance_checks.py.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline_assets.errors import InputError
from pipeline_assets.settings import PREFIX, Settings
from pipeline_assets.settings.files import ENV_FILE, literal_values
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.venue_identity import VenueIdentity, identity_of

# The orders of the paper venue have ids that begin so.
_PAPER_ID = "paper-"
_WIDTH = 78


class LiveRefusedError(InputError):
    """The gateway does not start for this venue. The message names each switch or limit that is missing."""


def require_account(settings: Settings, live_account: str | None) -> None:
    """Return if a person permits changes of the account: on live, by naming the account.

    Raises:
        LiveRefusedError: the account is not named, or is another one.
    """
    trading = settings.trading
    if trading.venue != "live" or live_account == trading.account:
        return
    if live_account:
        raise LiveRefusedError(
            f"--live names the account {live_account}, and PIPELINE_TRADING__ACCOUNT is {trading.account}: "
            f"to trade with money on {trading.account}, write --live {trading.account}."
        )
    raise LiveRefusedError(
        f"PIPELINE_TRADING__VENUE=live trades with money, which needs a second switch: add --live "
        f"{trading.account} to the command, the account of PIPELINE_TRADING__ACCOUNT."
    )


def require_switches(
    settings: Settings, live_account: str | None, environment: Mapping[str, str] | None = None
) -> None:
    """Return if the settings and the command agree about the venue.

    Args:
        settings: of the gateway.
        live_account: the command's `--live ACCOUNT`, or None without it.
        environment: the variables that are set; by default those of this process and of .env.

    Raises:
        LiveRefusedError: a switch is missing, or one contradicts another.
    """
    trading = settings.trading
    if live_account is not None and trading.venue != "live":
        raise LiveRefusedError(
            f"--live was given, and PIPELINE_TRADING__VENUE is {trading.venue}: trading with money needs "
            "both. Set PIPELINE_TRADING__VENUE=live, or leave --live out."
        )
    if trading.venue == "paper":
        return
    if trading.account == type(trading).model_fields["account"].default:
        raise LiveRefusedError(
            f"PIPELINE_TRADING__VENUE={trading.venue} needs an account's name of its own, since journals are "
            "kept by account. Example: PIPELINE_TRADING__ACCOUNT=desk-1"
        )
    if trading.venue == "live":
        _require_live(settings, live_account, environment)


def _require_live(
    settings: Settings, live_account: str | None, environment: Mapping[str, str] | None
) -> None:
    require_account(settings, live_account)
    missing = unset_limits(settings, _set_variables() if environment is None else environment)
    if missing:
        raise LiveRefusedError(
            "The venue live needs every risk limit set by you, in the environment or .env; defaults and "
            f"config.yaml do not count. Missing: {', '.join(missing)}."
        )


def unset_limits(settings: Settings, environment: Iterable[str]) -> list[str]:
    """Return the variables of risk limits that are not set."""
    given = {name.upper() for name in environment}
    wanted = [f"{PREFIX}RISK__{name}".upper() for name in type(settings.risk).model_fields]
    return [name for name in wanted if name not in given]


def _set_variables() -> Mapping[str, str]:
    return {**dict.fromkeys(literal_values(Path(ENV_FILE)), ""), **os.environ}


def require_own_journal(
    settings: Settings, state: GatewayState, moved_from: str | None = None
) -> None:
    """Return if the journal belongs to this venue, or to none yet, as one of an earlier version.

    Args:
        settings: of the gateway.
        state: of the journal.
        moved_from: the host at which a person says the same venue was before, or None.

    Raises:
        LiveRefusedError: the journal is another venue's, so the account has other positions.
    """
    wanted = identity_of(settings.trading)
    held = state.venue
    moved = VenueIdentity(wanted.venue, moved_from) if moved_from else None
    if held is not None and held not in (wanted, moved):
        advice = (
            " If this is the same exchange and account at a new address, start the gateway once by "
            f"`pipeline-assets gateway --moved-from {held.host}`."
        )
        raise LiveRefusedError(
            f"The journal of account {settings.trading.account} is of {held}, and the settings say "
            f"{wanted}. Name another account for the new venue, PIPELINE_TRADING__ACCOUNT=desk-2, or go back "
            "to the journal's by PIPELINE_TRADING__VENUE and PIPELINE_TRADING__REST_URL."
            + (advice if held.venue == wanted.venue else "")
        )
    if settings.trading.venue == "paper":
        return
    if any(held.venue_id.startswith(_PAPER_ID) for held in state.orders.values()):
        raise LiveRefusedError(
            f"The journal of account {settings.trading.account} has orders of the paper venue, and "
            f"PIPELINE_TRADING__VENUE is {settings.trading.venue}. Name another account, or another journal: "
            "PIPELINE_TRADING__ACCOUNT=desk-2"
        )


def banner(settings: Settings) -> str:
    """Return what a person must see when a gateway trades at an exchange: where, and within which limits."""
    trading, at = settings.trading, settings.trading.addresses
    title = (
        "LIVE TRADING: ORDERS COST MONEY" if trading.venue == "live" else "demo trading: play money"
    )
    lines = [
        f"account {trading.account} at {at.rest_url}",
        f"leverage {trading.leverage}, {trading.margin_type} margin",
        *(f"{name}: {value}" for name, value in settings.risk.model_dump().items()),
        "to stop: pipeline-assets gateway flatten",
    ]
    rule = "=" * _WIDTH
    return "\n".join(
        [rule, title.center(_WIDTH).rstrip(), rule, *(f"  {each}" for each in lines), rule]
    )
