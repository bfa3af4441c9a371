"""The rule which strategy's report is due: after each finished day, and after a change of the strategy or
of its settings. The report is made in stored_report.py, Dagster's side is sensors/backtest_reports.py.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from pipeline_assets.market.strategy import Strategy
from pipeline_assets.resources.document_versions import cursor_content


@dataclass(frozen=True)
class ReportRequest:
    """A report to make.

    Attributes:
        strategy: the name, which is the partition.
        key: the same for the same day and versions.
        cursor: what to remember once the report is requested.
    """

    strategy: str
    key: str
    cursor: str


def next_report(
    cursor: str | None, strategies: Iterable[Strategy], day: date | None
) -> ReportRequest | None:
    """Return the first report that is due, in the order of the settings; None if none is.

    Args:
        cursor: of the request before; None or another text means that nothing was requested yet.
        strategies: those of the settings.
        day: the newest finished day whose gap ledger is written; None if there is none.
    """
    if day is None:
        return None
    versions: dict[str, list[str]] = {}
    for each in strategies:
        versions.setdefault(each.name, []).append(each.version)
    wanted = {name: f"{day} {' '.join(each)}" for name, each in versions.items()}
    held = _held(cursor)
    for name, state in wanted.items():
        if held.get(name) != state:
            kept = {key: value for key, value in held.items() if key in wanted}
            return ReportRequest(name, f"{name} {state}", json.dumps(kept | {name: state}))
    return None


def _held(cursor: str | None) -> Mapping[str, str]:
    try:
        found = cursor_content(cursor, "backtest_reports")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
