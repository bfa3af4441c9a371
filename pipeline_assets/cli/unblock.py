"""The command `unblock`, and the text that shows a block: why this address may not ask the exchange."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.options import json_option
from pipeline_assets.cli.output import print_json
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.settings import load_settings

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Block


@click.command()
@json_option
def unblock(as_json: bool) -> None:
    """Lift the block that a refusal of the exchange (429 or 418) put on this address.

    `pipeline-assets status` names the block and the reply that asked for it. Every process of this
    address goes on within ten seconds. If the exchange did ban the address, its next reply blocks it
    again. The exit status is 1 if there was no block.
    """
    from pipeline_assets.resources.exchange_access import Exchange

    lifted = Exchange(load_settings()).budget.unblock()
    if as_json:
        print_json({"lifted": as_document(lifted)})
    elif lifted:
        click.echo(f"Lifted: {describe(lifted)}.")
    else:
        click.echo("Nothing was blocked.")
    if not lifted:
        sys.exit(1)


def describe(block: "Block") -> str:
    """Return one sentence: until when, how much longer, and which reply asked for it."""
    until = _until(block).isoformat(timespec="seconds").replace("+00:00", "Z")
    seconds = -(-block.left_ms // 1000)
    cause = block.cause or "a refusal of the exchange"
    return f"blocked until {until} by the exchange's clock ({seconds} s more): {cause}"


def as_document(block: "Block | None") -> dict[str, Any] | None:
    """Return the block for a program: `until` (ISO 8601, UTC), `seconds_left` and `cause`."""
    if block is None:
        return None
    return {
        "until": _until(block).isoformat(timespec="seconds"),
        "seconds_left": -(-block.left_ms // 1000),
        "cause": block.cause,
    }


def _until(block: "Block") -> datetime:
    try:
        return from_milliseconds(block.until_ms)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
