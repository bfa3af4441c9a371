"""The assets `daily_report`, `weekly_report` and `monthly_report`. Content, looks and objects of the reports
are in research/daily_report/; which runs are read is in run_records.py.
"""

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    MonthlyPartitionsDefinition,
    PartitionsDefinition,
    ResourceParam,
    WeeklyPartitionsDefinition,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import metadata, picture_metadata
from pipeline_assets.collection.findings import Table
from pipeline_assets.collection.scheduled_days import Span
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.research.daily_report.parts import Edition
    from pipeline_assets.research.daily_report.stored_edition import StoredEdition

_FIRST = FIRST_DAY.isoformat()
_DESCRIPTION = (
    "The report of a {span}: market, data, candidates and their outcomes, decisions, orders and profit, "
    "drift. A page `reports/{name}.html` that fetches nothing, the same as PDF, and the figures as JSON. "
    "Made from Snowflake and the lake; a {span} without data says so. Repeated, the same figures change "
    "nothing. The summary goes to the webhook once."
)


def report_assets() -> list[AssetsDefinition]:
    """Build the assets of the reports."""
    # Weeks begin on Monday, as ISO 8601 has them.
    weeks = WeeklyPartitionsDefinition(start_date=_FIRST, timezone="UTC", day_offset=1)
    months = MonthlyPartitionsDefinition(start_date=_FIRST, timezone="UTC")
    return [
        _report(layer.DAY_REPORT, "day", "yyyyMMdd", daily_partitions),
        _report(layer.WEEK_REPORT, "week", "yyyy-Www", weeks),
        _report(layer.MONTH_REPORT, "month", "yyyyMM", months),
    ]


def _report(
    key: AssetKey,
    kind: Span,
    name: str,
    partitions: PartitionsDefinition[Any],
) -> AssetsDefinition:
    @asset(
        key=key,
        deps=[
            layer.key(layer.OBJECTS, Interval.ONE_MINUTE),
            *(layer.key(layer.TABLE, each) for each in Interval if each.has_table),
            *layer.TRADING_TABLES,
            layer.OUTCOME_TABLE,
            AssetKey(layer.GAP_TABLE),
            layer.FUNDING_TABLE,
            layer.DRIFT,
            layer.RECONCILIATION,
        ],
        partitions_def=partitions,
        # A report takes a core and hundreds of megabytes.
        pool="reports",
        group_name="reports",
        owners=layer.OWNERS,
        kinds={"snowflake", "s3", "matplotlib"},
        description=_DESCRIPTION.format(span=kind, name="{" + name + "}"),
    )
    def make(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
        alerts: ResourceParam[Alerts],
    ) -> MaterializeResult[Any]:
        # Imported here: every run loads the definitions, and few draw.
        from pipeline_assets.assets.run_records import run_records
        from pipeline_assets.research.daily_report.alert import send_summary
        from pipeline_assets.research.daily_report.parts import Edition
        from pipeline_assets.research.daily_report.readers import Readers
        from pipeline_assets.research.daily_report.stored_edition import keep_report, make_report
        from pipeline_assets.resources.alerts import AlertError
        from pipeline_assets.resources.report_queries import ReportQueries

        url = settings.dagster.public_url
        edition = Edition.of(kind, date.fromisoformat(context.partition_key))
        now = datetime.now(UTC)
        readers = Readers(
            ReportQueries(warehouse),
            store,
            settings.trading.account,
            run_records(context.instance, edition.window()),
        )
        stored = keep_report(store, make_report(readers, edition, now), url)
        try:
            sent = send_summary(alerts, store, stored, edition, now, url)
        except AlertError as error:
            # The report itself is stored; the next run of the partition sends the summary again.
            context.log.warning("%s", error)
            sent = False
        return MaterializeResult(metadata=_shown(store, stored, edition) | {"summary sent": sent})

    return make


def _shown(store: ObjectStore, stored: "StoredEdition", edition: "Edition") -> dict[str, Any]:
    summary = stored.summary
    headlines = summary.headlines()
    values = metadata(
        {
            "headline": headlines[0] if headlines else "",
            "headlines": Table.of({"headline": "string"}, [(line,) for line in headlines]),
            "to know": Table.of({"warning": "string"}, [(line,) for line in summary.warnings]),
            "changed": stored.changed,
        }
    )
    values["report"] = MetadataValue.text(store.address(stored.page))
    values["PDF"] = MetadataValue.text(store.address(stored.pdf))
    values["read it"] = MetadataValue.text(f"pipeline-assets report {_argument(edition)} --open")
    if stored.cover is not None:
        values["first chart"] = picture_metadata(stored.cover, "first chart")
    return values


def _argument(edition: "Edition") -> str:
    option = "" if edition.kind == "day" else f" --{edition.kind}"
    return f"{edition.start:%Y-%m-%d}{option}"
