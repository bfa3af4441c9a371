"""The section about drift of models, from the documents `drift/{strategy}/{yyyyMMdd}.json`. Drift is
measured in research/drift.py.
"""

import re
from collections.abc import Sequence
from datetime import date

from pipeline_assets.research.daily_report import formats, parts
from pipeline_assets.research.daily_report.composing import bars, empty_section, section_of
from pipeline_assets.research.daily_report.parts import Chart, Edition, Figure, Section, Table
from pipeline_assets.research.daily_report.readers import Readers, nothing
from pipeline_assets.research.drift import moved
from pipeline_assets.research.drift_documents import PREFIX, DriftReport, drift_key, read_drift
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.wording import counted

_SECTION = "drift", "Model drift"
_DOCUMENT = re.compile(rf"{PREFIX}([^/]+)/([0-9]{{8}})\.json")
_FEATURES = 10


def drift_section(readers: Readers, edition: Edition) -> Section:
    """Return how far each current model's inputs, decisions and results moved by the end of an edition.

    Raises:
        ObjectStoreError: the lake does not answer.
        NewerVersionError: a newer release wrote a document.
    """
    reports, damaged = newest_reports(readers.store, edition.days())
    lost = tuple(_damaged(*each) for each in damaged)
    if not reports and lost:
        why = " ".join(each.detail for each in lost)
        return empty_section(_SECTION, "The stored drift cannot be read.", why)
    if not reports:
        why = "No drift was measured on a day of this span: there is no current model, or drift did not run."
        return empty_section(_SECTION, "No model was compared with its training.", why)
    figures = (*(_figure(each) for each in reports), *lost)
    tables = (_models(reports), _features(reports), _calibration(reports))
    charts = (_chart(reports),) if any(each.features for each in reports) else ()
    return section_of(_SECTION, _headline(reports), figures, charts, tables)


def newest_reports(
    store: ObjectStore, days: Sequence[date]
) -> tuple[list[DriftReport], list[tuple[str, date]]]:
    """Return the newest report of each strategy among some days, and strategy and day of damaged ones.

    Raises:
        ObjectStoreError: the lake does not answer.
        NewerVersionError: a newer release wrote a document.
    """
    newest: dict[str, date] = {}
    for stored in store.objects(PREFIX):
        if match := _DOCUMENT.fullmatch(stored.key):
            strategy, day = match[1], _day(match[2])
            if day is not None and day in days:
                newest[strategy] = max(day, newest.get(strategy, day))

    def read(each: tuple[str, date]) -> tuple[DriftReport | None, bool]:
        damage: list[str] = []
        return read_drift(store, *each, damage), bool(damage)

    asked = sorted(newest.items())
    found = list(store.each(read, asked))
    damaged = [each for each, (_, is_damaged) in zip(asked, found, strict=True) if is_damaged]
    return [report for report, _ in found if report is not None], damaged


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _damaged(strategy: str, day: date) -> Figure:
    source = parts.Source(f"drift of {strategy}", asset=f"drift {day}")
    why = f"The document {drift_key(strategy, day)} is damaged: materialize drift of {day}."
    return nothing(strategy, why, source)


def _source(report: DriftReport) -> parts.Source:
    return parts.Source(f"drift of {report.strategy}", asset=f"drift {report.day}")


def _all(reports: Sequence[DriftReport]) -> parts.Source:
    days = sorted({each.day for each in reports})
    text = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return parts.Source("drift of current models", asset=f"drift {text}")


def _headline(reports: Sequence[DriftReport]) -> str:
    warned = [each for each in reports if each.warnings]
    compared = sum(1 for each in reports if each.features or each.calibration)
    if not warned and not compared:
        return f"{counted(len(reports), 'model')} could not be compared with the training yet."
    if not warned:
        return f"Nothing moved of {compared:,} compared, of {counted(len(reports), 'model')}."
    first = warned[0]
    more = f" {counted(len(warned) - 1, 'other model')} moved too." if len(warned) > 1 else ""
    return f"{first.strategy}: {first.warnings[0]}{more}"


def _figure(report: DriftReport) -> Figure:
    if report.warnings:
        value, detail = "moved", " ".join(report.warnings)
    else:
        value = "no drift" if report.features or report.calibration else "not compared"
        detail = " ".join(report.notes)
    return Figure(report.strategy, value, detail, _source(report))


def _chart(reports: Sequence[DriftReport]) -> Chart:
    import polars as pl

    several = len(reports) > 1
    rows = [
        (f"{report.strategy}: {each.name}" if several else each.name, each.index)
        for report in reports
        for each in report.features
    ]
    rows.sort(key=lambda each: (-each[1], each[0]))
    name, index = rows[0]
    return bars(
        f"{name} moved most, with an index of {index:.2f}",
        pl.DataFrame(rows[:_FEATURES], ["feature", "index"], orient="row"),
        _all(reports),
        "",
        "Population stability index: below 0.1 is no change worth naming, 0.25 and more is a shift.",
    )


def _models(reports: Sequence[DriftReport]) -> Table:
    rows = [
        (
            each.strategy,
            each.model,
            str(each.day),
            formats.count(each.candidates),
            formats.count(len(moved(each.features))),
            " ".join([*each.warnings, *each.notes]),
        )
        for each in reports
    ]
    columns = "strategy, model, measured by the end of, candidates >, features that moved >, result"
    return formats.table("Models", columns, rows, _all(reports))


def _features(reports: Sequence[DriftReport]) -> Table:
    found = [(each.index, report.strategy, each) for report in reports for each in report.features]
    found.sort(key=lambda each: (-each[0], each[1], each[2].name))
    rows = [
        (
            strategy,
            each.name,
            f"{index:.2f}",
            formats.percent(each.missing, 1),
            formats.percent(each.trained_missing, 1),
        )
        for index, strategy, each in found[:_FEATURES]
    ]
    columns = "strategy, feature, index >, missing >, missing in training >"
    return formats.table("Features that moved most", columns, rows, _all(reports))


def _calibration(reports: Sequence[DriftReport]) -> Table:
    rows = [
        (
            report.strategy,
            formats.count(each.trades),
            formats.percent(each.probability, 1),
            formats.percent(each.won.mean, 1),
            formats.interval(each.won.low, each.won.high, 1),
        )
        for report in reports
        if report.calibration
        for each in report.calibration.groups
    ]
    columns = "strategy, trades >, mean probability >, won >, interval >"
    note = "Closed trades of accepted candidates of four weeks; the interval holds 9 times in 10."
    return formats.table("Probability against closed trades", columns, rows, _all(reports), note)
