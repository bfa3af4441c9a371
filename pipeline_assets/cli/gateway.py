"""The command group `gateway`: it runs the order gateway of services/gateway/, talks to a running one, and
compares a day of the ledger with the exchange. Printing is in gateway_output.py.
"""

import getpass
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import DayType, json_option, refuse_future
from pipeline_assets.cli.output import print_json
from pipeline_assets.market.intervals import DAY
from pipeline_assets.settings import load_settings

if TYPE_CHECKING:
    from pipeline_assets.services.gateway.client import GatewayClient

_reason = click.option(
    "--reason", default="by command", show_default=True, help="Kept with the change, for people."
)


_live = click.option(
    "--live",
    metavar="ACCOUNT",
    help="Trade with money, on this account. Needs PIPELINE_TRADING__VENUE=live as well.",
)

_moved_from = click.option(
    "--moved-from",
    metavar="HOST",
    help="Say that the journal's exchange has moved from this host to that of the settings; once.",
)


@click.group(invoke_without_command=True)
@_live
@_moved_from
@click.pass_context
def gateway(context: click.Context, live: str | None, moved_from: str | None) -> None:
    """Run the order gateway of the account, or talk to the running one.

    Without a subcommand it runs until Ctrl-C; `pipeline-assets up` starts it too, unless the venue is live.
    """
    if context.invoked_subcommand is None:
        context.invoke(run, live=live, moved_from=moved_from)
    elif moved_from is not None:
        raise click.UsageError("--moved-from belongs behind run.")
    elif live is not None:
        raise click.UsageError(
            f"--live belongs behind run or prepare, as in `pipeline-assets gateway prepare --live {live}`; "
            "other commands need no --live."
        )


@gateway.command()
@_live
@_moved_from
def run(live: str | None, moved_from: str | None) -> None:
    """Run the gateway until Ctrl-C. A second one for the same account refuses to start."""
    from pipeline_assets.services.gateway.process import main

    main(load_settings(), live, moved_from)


@gateway.command()
@_live
def prepare(live: str | None) -> None:
    """Set leverage and margin type of the symbols at the venue to what the settings say.

    A symbol with a position or an open order is refused by the exchange. Run it before the first start, and
    after a change of PIPELINE_TRADING__LEVERAGE or PIPELINE_TRADING__MARGIN_TYPE.
    """
    from pipeline_assets.services.gateway.preparation import prepare_symbols

    for line in prepare_symbols(load_settings(), live):
        click.echo(line)


@gateway.command()
@_reason
@json_option
def halt(reason: str, as_json: bool) -> None:
    """Open nothing until resumed, also after a restart. Cancels and closes pass."""
    _change("Halt", as_json, reason=reason)


@gateway.command()
@_reason
@json_option
def flatten(reason: str, as_json: bool) -> None:
    """Halt, cancel the gateway's orders and close every position of the account."""
    from uuid import uuid4

    _change("Flatten", as_json, reason=reason, close_id=str(uuid4()))


@gateway.command()
@_reason
@click.option("--symbol", default="", help="Resume the entries of this halted symbol only.")
@json_option
def resume(reason: str, symbol: str, as_json: bool) -> None:
    """Accept every order again. The day's loss counts anew."""
    _change("Resume", as_json, reason=reason, symbol=symbol)


@gateway.command()
@json_option
def state(as_json: bool) -> None:
    """Show mode, result, exposure, limits, positions and open orders."""
    from pipeline_assets.cli.gateway_output import (
        order_fields,
        position_fields,
        print_holdings,
        print_state,
        state_fields,
    )
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    with _client() as client:
        shown = state_fields(client.call(pb.GetStateRequest(), pb.GetStateResponse).state)
        held = client.call(pb.ListPositionsRequest(), pb.ListPositionsResponse).positions
        live = client.call(pb.ListOrdersRequest(), pb.ListOrdersResponse).orders
    positions, orders = list(map(position_fields, held)), list(map(order_fields, live))
    if as_json:
        print_json(shown | {"positions": positions, "orders": orders})
        return
    print_state(shown)
    print_holdings(positions, orders)


@gateway.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write copies of the journals, of one moment, to new files of the gateway's machine.

    The gateway's goes to FILE, the paper venue's beside it: copy.sqlite and copy.paper.sqlite. To restore:
    stop trader and gateway, put both in the places of the journals, and start both again (docs/backup.md).
    """
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    settings, target = load_settings(), file.absolute()
    with _client() as client:
        # A journal of years takes minutes.
        client.call(pb.BackupRequest(path=str(target)), pb.BackupResponse, seconds=3600)
    beside = (
        ", and the paper venue's journal beside it" if settings.trading.venue == "paper" else ""
    )
    click.echo(f"Written: {target}{beside}.")


@gateway.command()
@click.argument("day", type=DayType(), required=False, default=None)
@json_option
def reconcile(day: datetime | None, as_json: bool) -> None:
    """Compare the ledger of a UTC DAY, by default of yesterday, with the exchange's history.

    Each fill, fee and funding payment is compared; the result is stored, as Dagster's daily run does. Needs
    the lake, Redis and the account's key, and not the gateway. The exit status is 1 at a difference, and if
    a day of an exchange could not be compared.
    """
    from pipeline_assets.cli.gateway_output import print_reconciliation
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
    from pipeline_assets.trading.day_reconciliation import reconcile_day

    settings = load_settings()
    now = Exchange(settings).server_time()
    chosen = day.date() if day else now.date() - DAY
    refuse_future(chosen, now.date())
    result = reconcile_day(settings, ObjectStore(settings.s3, PERSON_PATIENCE), chosen, now)
    if as_json:
        print_json(result.to_dict())
    else:
        print_reconciliation(result)
    if not result.finding().passed:
        sys.exit(1)


def _change(call: str, as_json: bool, **fields: str) -> None:
    """Have the running gateway change its mode, and print its state after that."""
    from pipeline_assets.cli.gateway_output import print_state, state_fields
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    request = getattr(pb, f"{call}Request")(by=_person(), **fields)
    with _client() as client:
        answer = client.call(request, getattr(pb, f"{call}Response"))
    shown = state_fields(answer.state)
    if as_json:
        print_json(shown)
        return
    print_state(shown)
    if call == "Flatten" and answer.state.open_positions:
        click.echo(
            "Positions are being closed: `pipeline-assets gateway state` shows what is left."
        )


def _client() -> "GatewayClient":
    from pipeline_assets.services.gateway.client import GatewayClient

    return GatewayClient(load_settings().gateway)


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # The user has no name, as in some containers.
        return "unknown"
