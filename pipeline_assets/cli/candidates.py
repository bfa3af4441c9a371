"""Candidates as a person reads them: those of a day from the lake, or as they come from Kafka. The
command's options are in cli.py.
"""

import signal
from collections.abc import Iterable
from datetime import UTC, date, timedelta
from importlib.resources import files
from threading import Event
from typing import TYPE_CHECKING

import click

from pipeline_assets.market.candidates import Candidate, candidates_of
from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.candidate_objects import LATE, read_stored
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

_MINUTE = timedelta(minutes=1)
_COLOURS = {"long": "green", "short": "red"}


def schema_text() -> str:
    """The JSON Schema of a message's value, as published with the package."""
    found = files("pipeline_assets.market") / "candidate.schema.json"
    return found.read_text(encoding="utf-8")


def published(settings: Settings, day: date, last: int) -> tuple[list[Candidate], int]:
    """The newest `last` candidates published of a UTC day, oldest first, and how many there are."""
    stored = read_stored(ObjectStore(settings.s3, PERSON_PATIENCE), day)
    found = stored.filter(~stored[LATE])
    return candidates_of(found.tail(last)), found.height


def follow(settings: Settings, console: "Console", *, from_beginning: bool, as_json: bool) -> None:
    """Print candidates as they come from Kafka, one a line, until SIGINT or SIGTERM.

    A message that is no candidate is skipped. The first of them is named on standard error at once,
    and how many were skipped at the end: a topic of another program would fill the terminal.

    Raises:
        BrokerError: Kafka cannot be reached or refuses.
    """
    stop = Event()
    skipped = 0

    def on_skipped(problem: str) -> None:
        nonlocal skipped
        skipped += 1
        if skipped == 1:
            click.echo(
                f"{problem}: another program writes there, or another version of this one. It is "
                "skipped, as are all further ones. Set PIPELINE_KAFKA__TOPIC to a topic of its own.",
                err=True,
            )

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        topic = CandidateTopic(settings.kafka)
        for candidate in topic.read(
            from_beginning=from_beginning, stop=stop, on_skipped=on_skipped
        ):
            if as_json:
                click.echo(as_line(candidate))
            else:
                console.print(for_people(candidate), soft_wrap=True)
    finally:
        if skipped:
            messages = "message was" if skipped == 1 else "messages were"
            click.echo(f"{skipped:,} {messages} skipped: no candidate.", err=True)
        for number, handler in previous.items():
            signal.signal(number, handler)


def as_line(candidate: Candidate) -> str:
    """One JSON record, as it is on the wire."""
    return candidate.model_dump_json()


def for_people(candidate: Candidate) -> str:
    """One line, with rich's markup: time UTC, symbol, side, strategy, price, indicators, lag."""
    from rich.markup import escape

    colour = _COLOURS[candidate.side]
    # A minute's candle closes a minute after it opens; the lag is what a trader waits beyond that.
    lag = candidate.created_at - candidate.open_time - _MINUTE
    return (
        f"{candidate.open_time.astimezone(UTC):%m-%d %H:%M}  {escape(candidate.symbol):<14}"
        f"[{colour}]{candidate.side:<5}[/]  {escape(candidate.strategy):<20}"
        f"{candidate.price:>14g}  [dim]{escape(_values(candidate.indicators))}[/]  "
        f"+{lag.total_seconds():.1f} s"
    )


def print_table(console: "Console", candidates: Iterable[Candidate], day: date, total: int) -> None:
    """The candidates as a table under the day and its total."""
    from rich.box import SIMPLE
    from rich.table import Table

    shown = list(candidates)
    title = f"Published on {day:%Y-%m-%d} UTC: {total:,}"
    if len(shown) < total:
        title += f", the newest {len(shown):,} of them"
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title=title)
    for name in ("open time", "symbol", "side", "strategy", "version"):
        table.add_column(name, no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("indicators")
    for candidate in shown:
        table.add_row(
            f"{candidate.open_time.astimezone(UTC):%H:%M}",
            candidate.symbol,
            f"[{_COLOURS[candidate.side]}]{candidate.side}[/]",
            candidate.strategy,
            candidate.version,
            f"{candidate.price:g}",
            _values(candidate.indicators),
        )
    console.print(table)
    if not total:
        console.print(
            "None were published: symbols may be warming up, or nothing ticked "
            "(`pipeline-assets status`)."
        )


def _values(indicators: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in indicators.items())
