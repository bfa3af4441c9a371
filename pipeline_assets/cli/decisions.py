"""The command `decisions`: those of a day, with what a model said. Where they are read is decided by
trading/day_decisions.py.
"""

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.options import day_option, refuse_future, symbols_option
from pipeline_assets.cli.output import Row, print_rows
from pipeline_assets.cli.output import console as terminal
from pipeline_assets.outside_text import printable
from pipeline_assets.settings import load_settings
from pipeline_assets.trading.reason_texts import explained

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

_COLUMNS = ("open time", "symbol", "side", "strategy", "price", "verdict", "reason")
_MODEL_COLUMNS = ("probability", "expected")
_STYLES = {"accept": "green", "decline": "yellow"}


@click.command()
@day_option("--day", "Show decisions of this UTC day; by default of the exchange's today.")
@symbols_option("Only about candidates of these, separated by commas.")
@click.option("--strategy", "strategies", multiple=True, help="Only of this one; may be repeated.")
@click.option("--verdict", type=click.Choice(["accept", "decline"]), help="Only these.")
@click.option(
    "--last", type=click.IntRange(min=1), default=20, show_default=True, help="At most that many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
def decisions(
    *,
    day: date | None,
    symbols: list[str] | None,
    strategies: tuple[str, ...],
    verdict: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Show decisions about candidates: accepted or declined, why, and what the model expected.

    Today's are read from the documents of trader and inference service, those of earlier days from the
    day's Parquet object.
    """
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
    from pipeline_assets.trading.day_decisions import decisions_of_day

    settings = load_settings()
    today = Exchange(settings).server_time().date()
    refuse_future(day, today)
    wanted = day or today
    found = decisions_of_day(ObjectStore(settings.s3, PERSON_PATIENCE), wanted, today)
    asked = {"symbol": symbols, "strategy": strategies, "verdict": [verdict] if verdict else None}
    chosen = _chosen(found, asked)
    if as_json:
        for row in chosen.tail(last).iter_rows(named=True):
            click.echo(json.dumps(_as_document(row)))
    else:
        _print(terminal(), found, chosen, wanted, last)


def _chosen(found: "pl.DataFrame", asked: dict[str, Any]) -> "pl.DataFrame":
    """Return the rows whose columns have one of the values asked for."""
    import polars as pl

    return found.filter(
        *(pl.col(name).is_in(list(values)) for name, values in asked.items() if values)
    )


def _as_document(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON-serialisable values: times in ISO 8601, the reasons as a list."""
    held = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    return held | {"reasons": json.loads(row["reasons"]) if row["reasons"] else None}


def _print(
    console: "Console", found: "pl.DataFrame", chosen: "pl.DataFrame", day: date, last: int
) -> None:
    """Print the newest rows under the day and its totals, and what their reasons mean."""
    shown = chosen.tail(last)
    verdicts = chosen["verdict"].to_list()
    title = (
        f"Decided about candidates of {day} UTC: {chosen.height:,}, of them "
        f"{verdicts.count('accept'):,} accepted and {verdicts.count('decline'):,} declined"
    )
    if shown.height < chosen.height:
        title += f"; the newest {shown.height:,}"
    console.print(title, style="italic", soft_wrap=True)
    judged = shown["model"].is_not_null().any()
    columns = (*_COLUMNS, *_MODEL_COLUMNS) if judged else _COLUMNS
    rows = [_row(each, judged=judged) for each in shown.iter_rows(named=True)]
    print_rows(console, columns, rows)
    if judged:
        console.print(
            "probability: of a winning trade. expected: the trade's result after costs, in % of its value. "
            "In brackets: how an input changed the probability, in percentage points.",
            style="dim",
        )
    for line in explained(shown["reason"].drop_nulls()):
        console.print(line, style="dim", markup=False)
    if not found.height:
        console.print(
            "None: no candidate was published, or neither trader nor inference service runs "
            "(`pipeline-assets candidates`, `pipeline-assets status`)."
        )
    elif not chosen.height:
        names = ", ".join(sorted({*found["strategy"]}))
        console.print(
            f"None of {found.height:,} decisions of the day is as asked. They are of: {printable(names)}.",
            markup=False,
            soft_wrap=True,
        )


def _row(row: dict[str, Any], *, judged: bool) -> Row:
    cells = [
        f"{row['open_time'].astimezone(UTC):%H:%M}",
        *(row["symbol"], row["side"], row["strategy"], f"{row['price']:g}"),
        *(row["verdict"], row["reason"]),
    ]
    if judged:
        probability, expected = row["probability"], row["expected_value"]
        cells += [
            "" if probability is None else f"{probability:.0%}",
            "" if expected is None else f"{expected:+.2%}",
        ]
    said = f"by {row['author']}"
    if row["model"]:
        said += f", model {row['model']}"
    if row["reasons"]:
        said += f": {', '.join(map(_reason_text, json.loads(row['reasons'])))}"
    return Row(cells, _STYLES.get(row["verdict"], ""), said)


def _reason_text(reason: dict[str, Any]) -> str:
    value = "none" if reason["value"] is None else f"{reason['value']:.4g}"
    return f"{reason['input']}={value} ({reason['effect'] * 100:+.1f})"
