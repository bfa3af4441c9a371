"""Reporting a check's result, by partition or without a run. The checks themselves are in collection/ and
signals/.
"""

from collections.abc import Iterable, Mapping
from datetime import date

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetKey,
    AssetRecordsFilter,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.findings import Finding
from pipeline_assets.collection.freshness import Verdict
from pipeline_assets.dagster_instance.private import AssetCheckEvaluationTargetMaterializationData
from pipeline_assets.market.intervals import Interval


def freshness_evaluation(interval: Interval, verdict: Verdict) -> AssetCheckEvaluation:
    """Return a verdict to report as an evaluation of the check `fresh`, which needs no run."""
    finding = verdict.finding(seen=True)
    return AssetCheckEvaluation(
        asset_key=layer.key(layer.OBJECTS, interval),
        check_name=layer.FRESH,
        passed=finding.passed,
        description=finding.description,
        metadata=metadata(finding.metadata),
    )


def report(
    context: AssetExecutionContext | AssetCheckExecutionContext,
    asset_key: AssetKey,
    name: str,
    findings: Mapping[date, Finding],
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR,
) -> AssetCheckResult:
    """The result of a check for the run's partitions.

    Dagster records the returned result for one partition only; of a run over several days each
    day's finding is logged as an evaluation of its own, and the result sums them up. To be called
    after the materialization is recorded: Dagster shows an evaluation as current only if it names
    the partition's latest materialization.
    """
    if len(findings) > 1:
        _log_days(context, asset_key, name, findings, severity)
    failed = [day for day, finding in findings.items() if not finding.passed]
    reported = findings[failed[0]] if failed else next(iter(findings.values()))
    description = reported.description
    if failed and len(findings) > 1:
        description = f"{len(failed)} of {len(findings)} days failed. {failed[0]}: {description}"
    return AssetCheckResult(
        asset_key=asset_key,
        check_name=name,
        passed=not failed,
        description=description,
        metadata=metadata(reported.metadata),
        severity=severity,
    )


def _log_days(
    context: AssetExecutionContext | AssetCheckExecutionContext,
    asset_key: AssetKey,
    name: str,
    findings: Mapping[date, Finding],
    severity: AssetCheckSeverity,
) -> None:
    latest = _latest(context, asset_key, findings)
    for day, finding in findings.items():
        # log_event takes evaluations too; its annotation does not say so.
        context.op_execution_context.log_event(
            AssetCheckEvaluation(  # type: ignore[arg-type]
                asset_key=asset_key,
                check_name=name,
                passed=finding.passed,
                description=finding.description,
                metadata=metadata(finding.metadata),
                severity=severity,
                partition=day.isoformat(),
                target_materialization_data=latest.get(day.isoformat()),
            )
        )


def _latest(
    context: AssetExecutionContext | AssetCheckExecutionContext,
    asset_key: AssetKey,
    days: Iterable[date],
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """By partition the latest materialization, in one query: one a day took as long as its event."""
    keys = [day.isoformat() for day in days]
    chosen = AssetRecordsFilter(asset_key=asset_key, asset_partitions=keys)
    # This run has materialized each of them just now, so the newest are one of each; where another
    # run has done so since, some are left out, and Dagster shows that run's evaluation anyway.
    records = context.instance.fetch_materializations(chosen, limit=len(keys)).records
    return {
        str(record.partition_key): AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for record in reversed(records)
    }
