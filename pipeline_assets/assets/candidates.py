"""The candidates in Dagster: the sensor's results as runless events, and the finalized days on S3. Candidates
are found in signals/evaluation.py; signals/tick_news.py chooses the results to report.
"""

from collections.abc import Iterator
from typing import Any

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
from pipeline_assets.assets.inputs import days_of
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candidate_objects import finalize_candidates, read_candidates
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.signals.tick import TickReport
from pipeline_assets.signals.tick_news import News, news
from pipeline_assets.wording import counted

CANDIDATES, CANDIDATE_OBJECTS = layer.CANDIDATES, layer.CANDIDATE_OBJECTS
_GROUP = "candidates"


def candidates() -> AssetSpec:
    """Build the asset of what the sensor publishes; no run materializes it."""
    return AssetSpec(
        CANDIDATES,
        deps=[layer.key(layer.SLOTS, Interval.ONE_MINUTE)],
        description=(
            "Trade candidates: signals of the configured strategies on closed 1m candles, published to "
            "Kafka and kept under `candidates/1m/` on S3. The sensor `candidates` evaluates each "
            "minute and reports here what it found; there is nothing to materialize by hand. Candidates of "
            "minutes older than PIPELINE_CANDIDATES__PUBLISH_MINUTES are kept with `evaluated_late` true "
            "and are not published."
        ),
        group_name=_GROUP,
        partitions_def=daily_partitions,
        owners=layer.OWNERS,
        kinds={"kafka", "redis", "polars"},
    )


def candidate_objects() -> AssetsDefinition:
    """Build the asset of the finished days' candidates."""

    @asset(
        key=CANDIDATE_OBJECTS,
        deps=[CANDIDATES],
        description=(
            "A finished day's candidates as one object `candidates/1m/{yyyyMMdd}.parquet`, made of the "
            "objects that the sensor wrote minute by minute; one row an id."
        ),
        **layer.daily(_GROUP),
        kinds={"s3", "parquet"},
    )
    def finalize(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> MaterializeResult[Any]:
        """Finalize each day of the run; safe for a day that is not over yet."""
        found = 0
        for day in days_of(context):
            finalize_candidates(store, day)
            found += read_candidates(store, day).height
        return MaterializeResult(
            metadata={"candidates": found, "S3 prefix": store.address("candidates/1m/")}
        )

    return finalize


def events(
    report: TickReport, reported: frozenset[str]
) -> tuple[list[AssetMaterialization | AssetObservation], frozenset[str]]:
    """Return the events to report after an evaluation, and the names reported until now."""
    found = news(report, reported)
    days = [
        AssetMaterialization(CANDIDATES, partition=str(day), metadata=metadata(values))
        for day, values in found.days.items()
    ]
    return [*days, *_observations(report, found)], found.reported


def _observations(report: TickReport, found: News) -> Iterator[AssetObservation]:
    if found.skipped:
        count = len(report.skipped)
        yield AssetObservation(
            CANDIDATES,
            description=(
                f"Minutes of {counted(count, 'symbol')} were missed longer ago than "
                "PIPELINE_CANDIDATES__CATCH_UP_MINUTES and were not evaluated: signals so old are of no "
                "use to who trades. The check `parity` leaves them out."
            ),
            metadata=metadata({"skipped": found.skipped, "symbols": count}),
        )
    if found.silent:
        yield AssetObservation(
            CANDIDATES,
            description="No candidates come of these for now.",
            metadata=metadata({"no candidates": found.silent}),
        )
