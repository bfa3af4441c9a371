"""The section about candidates: how many each strategy found, and what became of them. Outcomes are computed
in research/outcomes.py, their intervals in intervals.py.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.composing import (
    bars,
    empty_section,
    most_frequent,
    section_of,
)
from pipeline_assets.research.daily_report.intervals import Limits, block_of, mean_limits
from pipeline_assets.research.daily_report.parts import Chart, Edition, Figure, Section, Table
from pipeline_assets.research.daily_report.readers import Answered, Readers, ask, nothing, reason
from pipeline_assets.resources.outcome_objects import HORIZONS
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    import polars as pl

_SECTION = "candidates", "Candidates"
_NO_COSTS = (
    "Returns are from the open of the minute after the candidate's, positive if the candidate was right, "
    "and before any cost."
)
_OUTCOMES = "outcomes of candidates"
_QUERIES = (("candidates", "candidates"), ("outcomes", _OUTCOMES), ("extremes", _OUTCOMES))
_MAIN = 60
_NAMES = {minutes: name for name, minutes in HORIZONS.items()}
_ALL = "all strategies"


def candidates_section(readers: Readers, edition: Edition) -> Section:
    """Return what strategies found in an edition, and what became of it.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
    """
    found, outcomes, extremes = (
        ask(readers, edition, name, f"{text} in the warehouse") for name, text in _QUERIES
    )
    if found.frame.is_empty():
        why = reason(found, "view of candidates", "No strategy found a candidate in this span.")
        return empty_section(_SECTION, "There are no candidates.", why)
    measured = measures(outcomes.frame, edition)
    charts = [_hours_chart(found), _returns_chart(measured, outcomes)]
    tables = [_strategies(found), _outcomes(measured, outcomes, edition), _extremes(extremes)]
    return section_of(
        _SECTION,
        headline_of(found.frame, measured),
        _figures(found, outcomes, measured),
        charts,
        tables,
    )


def measures(outcomes: "pl.DataFrame", edition: Edition) -> "pl.DataFrame":
    """Return the figures of each strategy and horizon, and those of all strategies last.

    Args:
        outcomes: sums by strategy, horizon and hour.
        edition: chooses the length of the blocks.

    Returns:
        `strategy`, `horizon_minutes`, `cases`, `mean` and `share` (positive) with their limits `…_low` and
        `…_high` (null where too few blocks are known), `not_over`, `minutes_missing`.
    """
    import polars as pl

    parts = [(name, part) for (name,), part in _by(outcomes, "strategy")]
    if len(parts) != 1:
        parts.append((_ALL, outcomes))
    rows = []
    for strategy, part in parts:
        for (minutes,), hours in _by(part, "horizon_minutes"):
            length = block_of(edition, timedelta(minutes=minutes))
            of_hour = hours.group_by("hour").agg(
                pl.col("cases", "returns", "positive", "not_over", "minutes_missing").sum()
            )
            rows.append((strategy, minutes, *_row(of_hour.sort("hour"), length)))
    schema = {"strategy": pl.String, "horizon_minutes": pl.Int64, "cases": pl.Int64}
    schema |= dict.fromkeys(
        ("mean", "mean_low", "mean_high", "share", "share_low", "share_high"), pl.Float64
    )
    schema |= {"not_over": pl.Int64, "minutes_missing": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def _by(frame: "pl.DataFrame", name: str) -> "list[tuple[tuple[Any, ...], pl.DataFrame]]":
    return list(frame.sort(name, maintain_order=True).group_by(name, maintain_order=True))


def _row(hours: "pl.DataFrame", length: timedelta) -> tuple[float, ...]:
    cases = int(hours["cases"].sum())
    mean, share = (
        formats.share_of(float(hours[name].sum()), cases) for name in ("returns", "positive")
    )
    of_mean, of_share = (mean_limits(hours, name, length) for name in ("returns", "positive"))
    left = (int(hours[name].sum()) for name in ("not_over", "minutes_missing"))
    return cases, mean, *_both(of_mean), share, *_both(of_share), *left


def _both(limits: Limits) -> tuple[float, float]:
    return limits.low, limits.high


def _main(measured: "pl.DataFrame") -> "pl.DataFrame":
    """Return each strategy after an hour, those with known outcomes only, the best first."""
    import polars as pl

    own = measured.filter(pl.col("strategy") != _ALL, pl.col("cases") > 0)
    return own.filter(horizon_minutes=_MAIN).sort("mean", "strategy", descending=[True, False])


def headline_of(found: "pl.DataFrame", measured: "pl.DataFrame") -> str:
    """Return the number of candidates, the best strategy, and whether its mean return may be chance."""
    total = counted(int(found["candidates"].sum()), "candidate")
    known = _main(measured)
    if known.is_empty():
        return f"{total}; what became of them is not known yet."
    best = known.row(0, named=True)
    sure = _sign(best["mean_low"], best["mean_high"])
    return (
        f"{total}; {best['strategy']} did best after one hour, with a mean return of "
        f"{formats.percent(best['mean'], 3, signed=True)}{sure}."
    )


def _sign(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ", of too short a time to tell from chance"
    return ", which may be chance" if low <= 0 <= high else ""


def _figures(found: Answered, outcomes: Answered, measured: "pl.DataFrame") -> tuple[Figure, ...]:
    frame = found.frame
    late, accepted = int(frame["late"].sum()), int(frame["accepted"].sum())
    total = int(frame["candidates"].sum())
    figures = [
        Figure(
            "Candidates",
            formats.count(total),
            f"of {counted(frame['strategy'].n_unique(), 'strategy', 'strategies')}; "
            f"{late:,} evaluated too late to publish",
            found.source,
        ),
        Figure(
            "Accepted",
            formats.count(accepted),
            f"{formats.percent(formats.share_of(accepted, total), 1)} of the candidates",
            found.source,
        ),
    ]
    last = measured.tail(1)["strategy"].to_list()
    totals = measured.filter(measured["strategy"].is_in(last))
    held = {each["horizon_minutes"]: each for each in totals.iter_rows(named=True)}
    for minutes, name in _NAMES.items():
        label = f"Mean return after {name}"
        each = held.get(minutes)
        if each is None or not each["cases"]:
            why = reason(outcomes, "view of outcomes", "No outcome is known yet.")
            figures.append(nothing(label, why, outcomes.source))
            continue
        limits = _limits(each, "mean", 3)
        detail = (
            f"{formats.percent(each['share'], 1)} of {each['cases']:,} positive; 95 %: {limits}"
        )
        value = formats.percent(each["mean"], 3, signed=True)
        figures.append(Figure(label, value, detail, outcomes.source))
    return tuple(figures)


def _limits(row: dict[str, Any], name: str, places: int) -> str:
    return formats.interval(row[f"{name}_low"], row[f"{name}_high"], places)


def _hours_chart(found: Answered) -> Chart:
    import polars as pl

    shown = (
        found.frame.group_by("strategy", pl.col("hour").dt.hour().alias("of_day"))
        .agg(pl.col("candidates").sum())
        .with_columns(time=pl.format("{}:00", pl.col("of_day").cast(pl.String).str.zfill(2)))
        .sort("strategy", "of_day")
    )
    hours = shown.group_by("time").agg(pl.col("candidates").sum())
    peaks = hours.sort("candidates", "time", descending=[True, False])
    grid = (
        shown.select("strategy")
        .unique()
        .join(pl.DataFrame({"time": [f"{hour:02d}:00" for hour in range(24)]}), how="cross")
        .join(shown, on=["strategy", "time"], how="left")
        .select("time", "strategy", pl.col("candidates").fill_null(0))
        .sort("strategy", "time")
    )
    return Chart(
        most_frequent(
            "The hour (UTC) with most candidates is",
            "The hours (UTC) with most candidates are",
            peaks,
        ),
        "heatmap",
        grid,
        x="time",
        y="candidates",
        series="strategy",
        unit="candidates",
        source=found.source,
        note="Candidates by strategy and by the hour in which they were found, UTC.",
    )


def _returns_chart(measured: "pl.DataFrame", outcomes: Answered) -> Chart | None:
    import polars as pl

    known = _main(measured)
    if known.is_empty():
        return None
    best = known.row(0, named=True)
    return bars(
        f"{best['strategy']} did best after one hour",
        known.select("strategy", (pl.col("mean") * 100).alias("return")),
        outcomes.source,
        "%",
        f"Mean return of a candidate after one hour. {_NO_COSTS}",
    )


def _strategies(found: Answered) -> Table:
    import polars as pl

    by_strategy = (
        found.frame.group_by("strategy")
        .agg(pl.col("candidates", "accepted", "late").sum())
        .sort("candidates", "strategy", descending=[True, False])
    )
    rows = [(name, *map(formats.count, numbers)) for name, *numbers in by_strategy.iter_rows()]
    columns = "strategy, candidates >, accepted >, evaluated late >"
    return formats.table("Candidates by strategy", columns, rows, found.source)


def _outcomes(measured: "pl.DataFrame", outcomes: Answered, edition: Edition) -> Table:
    rows = [
        (
            each["strategy"],
            _NAMES.get(each["horizon_minutes"], f"{each['horizon_minutes']} min"),
            formats.count(each["cases"]),
            formats.percent(each["mean"], 3, signed=True),
            _limits(each, "mean", 3),
            formats.percent(each["share"], 1),
            _limits(each, "share", 1),
            formats.count(each["not_over"]),
            formats.count(each["minutes_missing"]),
        )
        for each in measured.iter_rows(named=True)
    ]
    columns = (
        "strategy, after, known >, mean return >, 95 % of the mean >, positive >, 95 % of the share >, "
        "not over >, minutes missing >"
    )
    blocks = "hours, at least as long as the horizon" if edition.kind == "day" else "whole days"
    note = f"{_NO_COSTS} Intervals by a bootstrap of blocks of {blocks}; none of fewer than six blocks."
    return formats.table("Outcomes of candidates", columns, rows, outcomes.source, note)


def _extremes(extremes: Answered) -> Table:
    rows = [
        (
            each["symbol"],
            each["strategy"],
            each["side"],
            formats.minute(each["open_time"]),
            formats.percent(each["signed_return"], signed=True),
            formats.percent(each["favourable"], signed=True),
            formats.percent(each["adverse"], signed=True),
            each["verdict"] or "no decision",
        )
        for each in extremes.frame.iter_rows(named=True)
    ]
    columns = "symbol, strategy, side, minute, return >, most in favour >, most against >, decision"
    note = f"The five best and the five worst after one hour. {_NO_COSTS}"
    return formats.table("Best and worst candidates", columns, rows, extremes.source, note)
