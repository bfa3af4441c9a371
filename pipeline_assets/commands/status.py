"""The command `status`: what runs, at which addresses, and how fresh each symbol is. The table of
systems, which `up` and `demo` print too, is in cli.py; what is counted is in overview.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.commands.demo import exchange_time
from pipeline_assets.commands.overview import Overview, days_overview
from pipeline_assets.local.stack import StackStatus, stack_status, systems
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

_STORES = ("exchange", "s3", "redis", "snowflake")


def show_status(
    settings: Settings,
    console: "Console",
    *,
    days: int,
    as_json: bool,
    print_systems: Callable[[StackStatus], None],
) -> int:
    """Print the status and return the command's exit status."""
    stack = stack_status(settings)
    stores_answer = all(each.alive for each in stack.services if each.name in _STORES)
    now = exchange_time(settings) if stores_answer else None
    found = days_overview(settings, days, now) if now else []
    if as_json:
        click.echo(
            json.dumps(
                {"stack": asdict(stack), "symbols": [asdict(each) for each in found]},
                default=str,
                ensure_ascii=False,
            )
        )
    else:
        print_systems(stack)
        if now:
            print_overview(console, found, now)
            if any(each.missing for each in found):
                first = (now - timedelta(days=days - 1)).date()
                console.print(
                    "`pipeline-assets gaps` tells why, and --repair fills them. Days before the first "
                    "stored one are a backfill's: `pipeline-assets backfill`, or "
                    f"`gaps --repair --start {first}`."
                )
    if now is None:
        for line in _silent(settings, stack):
            click.secho(line, fg="red", err=True)
        return 1
    return 0


def _silent(settings: Settings, stack: StackStatus) -> Iterator[str]:
    """What to do about the stores that do not answer: `up` starts this machine's only."""
    down = [each for each in stack.services if each.name in _STORES and not each.alive]
    embedded = ", ".join(each.name for each in down if each.embedded)
    if embedded:
        yield f"Not answering: {embedded}. Start them with `pipeline-assets up`."
    named = {each.name: each.setting for each in systems(settings)}
    for each in down:
        if not each.embedded:
            yield (
                f"{each.name} at {each.address} is not answering: check that it runs and "
                f"{named[each.name]}."
            )


def print_overview(console: "Console", found: Sequence[Overview], now: datetime) -> None:
    """Print what is stored as a table."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        title=f"Stored, by the exchange's clock at {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )
    for name in ("symbol", "interval"):
        table.add_column(name, no_wrap=True)
    for name in ("objects", "rows", "newest open", "slots", "table rows", "gaps"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        cells: list[Any] = [
            each.objects,
            each.rows,
            _short(each.newest),
            each.slots,
            each.table_rows,
        ]
        gaps = f"[red]{each.missing}[/]" if each.missing else "[green]0[/]"
        texts = [
            "" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in cells
        ]
        table.add_row(each.symbol, each.interval, *texts, gaps)
    console.print(table)


def _short(moment: datetime | None) -> str:
    return moment.strftime("%m-%d %H:%M") if moment else "none"
