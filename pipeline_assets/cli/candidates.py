"""The command `candidates`: those of a day from the lake, or as they come from Kafka."""

import signal
from collections.abc import Iterable
from datetime import UTC, date, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import day_option, refuse_future
from pipeline_assets.cli.output import Row, print_rows
from pipeline_assets.cli.output import console as terminal
from pipeline_assets.cli.stack import check_strategies
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.stop_flag import StopFlag, set_by_signals

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.market.candidates import Candidate

_MINUTE = timedelta(minutes=1)
_COLOURS = {"long": "green", "short": "red"}
_COLUMNS = ("open time", "symbol", "side", "strategy", "version", "price")


@click.command()
@click.option(
    "--follow",
    "follow_topic",
    is_flag=True,
    help="Print them as they come from Kafka; Ctrl-C ends.",
)
@click.option("--from-beginning", is_flag=True, help="With --follow: first all that Kafka keeps.")
@day_option("--day", "Show candidates of this UTC day; by default of the exchange's today.")
@click.option(
    "--last", type=click.IntRange(min=1), default=20, show_default=True, help="At most that many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of these records, and end.")
def candidates(
    *,
    follow_topic: bool,
    from_beginning: bool,
    day: date | None,
    last: int,
    as_json: bool,
    schema: bool,
) -> None:
    """Show trade candidates: what a day published, or what arrives now."""
    from pipeline_assets.resources.exchange_access import Exchange

    if from_beginning and not follow_topic:
        raise click.UsageError("--from-beginning reads Kafka: give --follow, too.")
    if schema:
        found = files("pipeline_assets.market") / "candidate.schema.json"
        click.echo(found.read_text(encoding="utf-8"), nl=False)
        return
    settings = load_settings()
    check_strategies(settings)
    if follow_topic:
        follow(settings, terminal(), from_beginning=from_beginning, as_json=as_json)
        return
    wanted = day or Exchange(settings).server_time().date()
    shown, total = _published(settings, wanted, last)
    if not total:
        # Only then, so that what is stored can be read while the exchange does not answer.
        refuse_future(wanted, Exchange(settings).server_time().date())
    if as_json:
        for candidate in shown:
            click.echo(candidate.model_dump_json())
    else:
        _print_table(terminal(), shown, wanted, total)


def _published(settings: Settings, day: date, last: int) -> tuple[list["Candidate"], int]:
    """Return the newest `last` candidates published of a UTC day, oldest first, and how many there are."""
    from pipeline_assets.market.candidates import candidates_of
    from pipeline_assets.resources.candidate_objects import LATE, read_stored
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    stored = read_stored(ObjectStore(settings.s3, PERSON_PATIENCE), day)
    found = stored.filter(~stored[LATE])
    return candidates_of(found.tail(last)), found.height


def follow(settings: Settings, console: "Console", *, from_beginning: bool, as_json: bool) -> None:
    """Print candidates as they come from Kafka, one a line, until SIGINT or SIGTERM.

    A message that is not a candidate is skipped. The first one is named on standard error at once, and
    the number of skipped ones at the end, since a topic of another program would fill the terminal.

    Raises:
        BrokerError: Kafka cannot be reached or refuses.
    """
    from pipeline_assets.resources.broker import CandidateTopic

    stop = StopFlag()
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

    try:
        with set_by_signals(stop, (signal.SIGINT, signal.SIGTERM)):
            topic = CandidateTopic(settings.kafka)
            for candidate in topic.read(
                from_beginning=from_beginning, stop=stop, on_skipped=on_skipped
            ):
                if as_json:
                    click.echo(candidate.model_dump_json())
                else:
                    console.print(_for_people(candidate), soft_wrap=True)
    finally:
        if skipped:
            messages = "message was" if skipped == 1 else "messages were"
            click.echo(f"{skipped:,} {messages} skipped: no candidate.", err=True)


def _for_people(candidate: "Candidate") -> str:
    """Return one line, with rich's markup: time UTC, symbol, side, strategy, price, indicators, lag."""
    from rich.markup import escape

    colour = _COLOURS[candidate.side]
    # A minute's candle closes a minute after it opens; the lag is what a trader waits beyond that.
    lag = candidate.created_at - candidate.open_time - _MINUTE
    return (
        f"{candidate.open_time.astimezone(UTC):%m-%d %H:%M}  {escape(candidate.symbol):<14}"
        f"[{colour}]{candidate.side:<5}[/]  {escape(candidate.strategy):<20}"
        f"{candidate.price:>14g}  [dim]{escape(_values(candidate.indicators))}[/]  "
        f"{lag.total_seconds():.0f} s after close"
    )


def _print_table(
    console: "Console", candidates: Iterable["Candidate"], day: date, total: int
) -> None:
    """Print the candidates under the day and its total."""
    shown = list(candidates)
    title = f"Published on {day:%Y-%m-%d} UTC: {total:,}"
    if len(shown) < total:
        title += f", the newest {len(shown):,} of them"
    console.print(title, style="italic", soft_wrap=True)
    _print_rows(console, shown)
    if not total:
        console.print(
            "None were published: symbols may be warming up, or no minute was stored "
            "(`pipeline-assets status`)."
        )


def _print_rows(console: "Console", candidates: Iterable["Candidate"]) -> None:
    """Print two lines for each candidate: its columns, and its indicators below them."""
    rows = [
        Row(
            (
                f"{each.open_time.astimezone(UTC):%H:%M}",
                *(each.symbol, each.side, each.strategy, each.version),
                f"{each.price:g}",
            ),
            _COLOURS[each.side],
            _values(each.indicators),
        )
        for each in candidates
    ]
    print_rows(console, _COLUMNS, rows)


def _values(indicators: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in indicators.items())
