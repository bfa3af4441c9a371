"""The drift of a day as a person reads it: the check's finding and the tables. Figures come from drift.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_assets.collection.findings import Finding, Table
from pipeline_assets.research.drift_documents import DriftReport

_NAMED = 10
_TEXT, _NUMBER, _COUNT = "string", "float", "int"
_MODELS = {"strategy": _TEXT, "model": _TEXT, "candidates": _COUNT, "result": _TEXT}
_FEATURES = {
    "index": _NUMBER,
    "strategy": _TEXT,
    "feature": _TEXT,
    "missing": _NUMBER,
    "missing in training": _NUMBER,
}
_OUTCOMES = {"strategy": _TEXT, "outcome": _TEXT, "number": _COUNT, "share": _NUMBER}
_CALIBRATION = {
    "strategy": _TEXT,
    "trades": _COUNT,
    "probability": _NUMBER,
    "won": _NUMBER,
    "won at least": _NUMBER,
    "won at most": _NUMBER,
}


def finding(
    reports: Sequence[DriftReport], reasons: Mapping[str, str], damaged: Mapping[str, str]
) -> Finding:
    """Return the finding of a day, which says what moved and what was not compared.

    It fails if anything moved, or if records were left out.

    Args:
        reports: of the models that were compared.
        reasons: by strategy, why a model was not compared.
        damaged: by key, what is wrong with records of trading; these were left out.
    """
    warnings = [f"{each.strategy}: {text}" for each in reports for text in each.warnings]
    if damaged:
        named = (
            f"{', '.join(list(damaged)[:_NAMED])}{' and others' if len(damaged) > _NAMED else ''}"
        )
        first = next(iter(damaged.values()))
        left_out = f"Left out, because the objects are damaged: {named}. {first}"
        warnings.insert(0, left_out)
    notes = [f"{each.strategy}: {text}" for each in reports for text in each.notes]
    notes += [f"{name}: not compared, {reason.rstrip('.')}." for name, reason in reasons.items()]
    return Finding(not warnings, " ".join([*warnings, *notes]) or "Nothing moved.")


def tables(reports: Sequence[DriftReport], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables of a day; those without any row are left out, but for the models'."""
    models: list[tuple[Any, ...]] = [
        (each.strategy, each.model, each.candidates, " ".join([*each.warnings, *each.notes]))
        for each in reports
    ]
    models += [(name, "none", 0, reason) for name, reason in reasons.items()]
    features = [
        (each.index, report.strategy, each.name, each.missing, each.trained_missing)
        for report in reports
        for each in report.features
    ]
    features.sort(key=lambda each: (-each[0], *each[1:3]))
    found = {
        "features": (_FEATURES, features),
        "decisions": (_OUTCOMES, [each for report in reports for each in _outcomes(report)]),
        "calibration": (_CALIBRATION, [each for report in reports for each in _groups(report)]),
    }
    shown = {name: Table.of(columns, rows) for name, (columns, rows) in found.items() if rows}
    return {"models": Table.of(_MODELS, models), **shown}


def _outcomes(report: DriftReport) -> list[tuple[Any, ...]]:
    outcomes = report.decisions.outcomes if report.decisions else ()
    total = sum(each.number for each in outcomes)
    return [(report.strategy, each.outcome, each.number, each.number / total) for each in outcomes]


def _groups(report: DriftReport) -> list[tuple[Any, ...]]:
    groups = report.calibration.groups if report.calibration else ()
    return [
        (report.strategy, each.trades, each.probability, each.won.mean, each.won.low, each.won.high)
        for each in groups
    ]
