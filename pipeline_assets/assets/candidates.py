"""The candidates in Dagster: what the sensor found, as runless events, and the sealed days on S3. How
candidates are found is in evaluation.py, whether they are right in parity.py.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetObservation,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.assets.presentation import moment, table
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.candidate_objects import read_candidates, seal_candidates
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.signals.evaluation import TickReport

if TYPE_CHECKING:
    import polars as pl

CANDIDATES, CANDIDATE_OBJECTS = layer.CANDIDATES, layer.CANDIDATE_OBJECTS
_GROUP = "candidates"
_COLUMNS = {
    "minute": "string",
    "symbol": "string",
    "strategy": "string",
    "side": "string",
    "price": "float",
}


def candidates() -> AssetSpec:
    """The asset of what the sensor publishes; no run materializes it."""
    return AssetSpec(
        CANDIDATES,
        deps=[layer.key(layer.SLOTS, Interval.ONE_MINUTE)],
        description=(
            "Trade candidates: signals of the configured strategies on closed 1m candles, published to "
            "Kafka and kept under `candidates/1m/` on S3. The sensor `candidates` evaluates each "
            "minute and reports here what it found; there is nothing to materialize by hand. Those of "
            "minutes older than PIPELINE_CANDIDATES__PUBLISH_MINUTES are kept with `evaluated_late` true "
            "and are not published."
        ),
        group_name=_GROUP,
        partitions_def=daily_partitions,
        owners=layer.OWNERS,
        kinds={"kafka", "redis", "polars"},
    )


def candidate_objects() -> AssetsDefinition:
    """The asset of the finished days' candidates."""

    @asset(
        key=CANDIDATE_OBJECTS,
        deps=[CANDIDATES],
        description=(
            "A finished day's candidates as one object `candidates/1m/{yyyyMMdd}.parquet`, made of the "
            "objects that the sensor wrote minute by minute; one row an id."
        ),
        group_name=_GROUP,
        partitions_def=daily_partitions,
        backfill_policy=backfill_policy,
        owners=layer.OWNERS,
        kinds={"s3", "parquet"},
    )
    def seal(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> MaterializeResult[Any]:
        """Seal each day of the run; a day that is not over yet loses nothing by it."""
        found = 0
        for key in context.partition_keys:
            day = date.fromisoformat(key)
            seal_candidates(store, day)
            found += read_candidates(store, day).height
        return MaterializeResult(
            metadata={"candidates": found, "S3 prefix": store.address("candidates/1m/")}
        )

    return seal


def events(
    report: TickReport, told: frozenset[str]
) -> tuple[list[AssetMaterialization | AssetObservation], frozenset[str]]:
    """What a tick has to tell, given what was told before, and what is told then.

    Runless events are never deleted, so only what is new is told: candidates, skipped minutes, a
    strategy that began to fail, a symbol that began to warm up for want of history.
    """
    import polars as pl

    found: list[AssetMaterialization | AssetObservation] = []
    if report.candidates or report.late:
        both = [
            *(each.with_columns(late=pl.lit(value=False)) for each in report.candidates),
            *(each.with_columns(late=pl.lit(value=True)) for each in report.late),
        ]
        evaluated = pl.concat(both).unique("id", keep="last", maintain_order=True)
        days = evaluated.with_columns(day=pl.col("open_time").dt.date()).partition_by(
            "day", as_dict=True, include_key=False, maintain_order=True
        )
        found += [_materialization(day, frame, report) for (day,), frame in days.items()]
    if report.skipped:
        found.append(_skipped(report.skipped))
    standing = {
        **{f"strategy {name}": reason for name, reason in report.failed_strategies.items()},
        **{f"symbol {symbol}": reason for symbol, reason in report.short.items()},
    }
    new = {name: reason for name, reason in standing.items() if name not in told}
    if new:
        columns = {"what": "string", "why": "string"}
        found.append(
            AssetObservation(
                CANDIDATES,
                description="No candidates come of these for now.",
                metadata={"no candidates": table(columns, sorted(new.items()))},
            )
        )
    if report.candles:
        # A tick without a minute knows nothing of the strategies.
        told = frozenset(standing)
    return found, told | standing.keys()


def _materialization(
    day: Any, evaluated: "pl.DataFrame", report: TickReport
) -> AssetMaterialization:
    import polars as pl

    frame = evaluated.filter(~pl.col("late"))
    counted = frame.group_by("strategy", "side").len().sort("strategy", "side")
    newest = frame.sort("open_time", "symbol", descending=[True, False])
    rows = newest.select("open_time", "symbol", "strategy", "side", pl.col("price"))
    metadata: dict[str, Any] = {
        "candidates": frame.height,
        "evaluated late": evaluated.height - frame.height,
        "symbols": frame["symbol"].n_unique(),
        "newest candidates": table(
            _COLUMNS, ((moment(opened), *others) for opened, *others in rows.iter_rows())
        ),
        "by strategy": table(
            {"strategy": "string", "side": "string", "candidates": "int"}, counted.rows()
        ),
        **_strategy_failures(report.failed_strategies),
    }
    if report.lag is not None:
        metadata["lag from candle close (s)"] = round(report.lag / timedelta(seconds=1), 3)
    return AssetMaterialization(CANDIDATES, partition=str(day), metadata=metadata)


def _strategy_failures(failures: Mapping[str, str]) -> dict[str, Any]:
    if not failures:
        return {}
    return {
        "failed strategies": table(
            {"strategy": "string", "reason": "string"}, sorted(failures.items())
        )
    }


def _skipped(skipped: Mapping[str, Window]) -> AssetObservation:
    columns = {"symbol": "string", "from": "string", "until": "string", "minutes": "int"}
    records = [
        (symbol, moment(window.start), moment(window.end), window.candles(Interval.ONE_MINUTE))
        for symbol, window in sorted(skipped.items())
    ]
    return AssetObservation(
        CANDIDATES,
        description=(
            f"Minutes of {len(skipped)} symbols were missed longer ago than "
            "PIPELINE_CANDIDATES__CATCH_UP_MINUTES and were not evaluated: signals so old are of no "
            "use to who trades. The check `parity` leaves them out."
        ),
        metadata={"skipped": table(columns, records), "symbols": len(skipped)},
    )


def message(report: TickReport) -> str:
    """What a tick did, in a sentence or two for the list of ticks."""
    if not report.symbols:
        return (
            "No symbol is collected yet: the first tick_1m run tells which the exchange lists. Is the "
            "schedule on?"
        )
    published = sum(frame.height for frame in report.candidates)
    if report.candles:
        minute = _minute(report.newest)
        said = [f"Evaluated {report.candles} candles up to {minute}: {published} candidates."]
        late = sum(frame.height for frame in report.late)
        if late:
            said.append(f"{late} more are stored as evaluated late and were not published.")
    elif report.empty:
        said = ["There are no candles in the slots. Do the ticks of 1m run?"]
    else:
        said = [f"No new minute since {_minute(report.cursor.evaluated)}."]
    said += _first(report.warming, "warming up")
    said += _first(
        {symbol: f"waits for {_minute(at)}" for symbol, at in report.waiting.items()}, "waiting"
    )
    said += _first({s: f"from {moment(w.start)}" for s, w in report.skipped.items()}, "skipped")
    said += _first(report.failed_strategies, "failed", of="strategies")
    said += _first(report.problems, "held up")
    return " ".join(said)


def _minute(opened: datetime | None) -> str:
    return "the beginning" if opened is None else f"{opened:%Y-%m-%d %H:%M}"


def _first(reasons: Mapping[str, str], what: str, of: str = "symbols") -> Iterable[str]:
    if reasons:
        name = min(reasons)
        yield f"{len(reasons)} {of} {what}, the first {name}: {reasons[name].rstrip('.')}."
