"""The sweep of the lake as a person or a program asks for it. What a sweep does is in
collection/lake_sweep.py; the command's options are in cli.py.
"""

from collections.abc import Iterator

from pipeline_assets.collection.lake_sweep import Selection, SweepReport, sweep
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.settings import Settings


def verify(settings: Settings, selection: Selection, *, set_aside: bool) -> SweepReport:
    """Sweep the lake of the settings.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    return sweep(ObjectStore(settings.s3, PERSON_PATIENCE), selection, set_aside=set_aside)


def as_lines(report: SweepReport) -> Iterator[str]:
    """The report for a terminal: one line for each damaged object, and what to do."""
    for each in report.damaged:
        moved = f"; moved to {each.kept}" if each.kept else ""
        yield f"{each.key}: {each.why}{moved}"
    yield (
        f"{report.objects:,} objects ({report.size:,} bytes) read, {len(report.damaged):,} damaged, "
        f"{report.without_digest:,} without a digest."
    )
    if any(each.kept is None for each in report.damaged):
        yield (
            "To have them made again: `pipeline-assets verify --set-aside` with the same options, then "
            "`pipeline-assets gaps --repair` for candles. docs/operations.md (Damaged objects) has the rest."
        )
    elif report.damaged:
        yield "`pipeline-assets gaps --repair` fetches the candles again."
