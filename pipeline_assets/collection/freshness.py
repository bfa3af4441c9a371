"""Whether the stored candles of an interval are as new as the exchange allows, and what has to be reported of
it. The callers report it: Dagster's check `fresh`, its sensors, and the watchdog.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.findings import Finding, Table, moment
from pipeline_assets.collection.listings import collected_now
from pipeline_assets.collection.run_names import ingest_job
from pipeline_assets.market.intervals import EPOCH, Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.ingest_state import IngestState, read_ingest_state
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted

# An ingest run has two minutes from a candle's close; a missed minute heals in the next.
GRACE = timedelta(minutes=2)


@dataclass(frozen=True)
class Verdict:
    """Whether an interval is fresh.

    Attributes:
        fresh: whether every symbol is.
        description: the verdict in words.
        newest: the newest open time of any symbol; None if nothing was ever stored.
        late: each stale symbol with its newest open time, the oldest first.
    """

    fresh: bool
    description: str
    newest: datetime | None = None
    late: tuple[tuple[str, datetime], ...] = ()

    @property
    def stored(self) -> bool:
        """Whether anything was ever stored."""
        return self.newest is not None

    def stale(self, *, seen: bool) -> bool:
        """Return whether to report the interval as stale.

        An interval that was never `seen` is neither fresh nor stale: a new installation would begin with
        an alarm.
        """
        return seen and not self.fresh

    def finding(self, *, seen: bool) -> Finding:
        """Return the verdict as the result of a check."""
        columns = {"symbol": "string", "newest open time": "string"}
        rows = ((symbol, moment(at)) for symbol, at in self.late)
        shown = {"stale": Table.of(columns, rows)} if self.late else {}
        return Finding(not self.stale(seen=seen), self.description, shown)


def judge(
    interval: Interval, state: IngestState, server_time: datetime, upload_minutes: int
) -> Verdict:
    """Return which symbols' newest stored candle is older than it should be.

    Args:
        interval: of the candles.
        state: what is stored of the symbols that are collected now; see `_of_collected`.
        server_time: the exchange's time, UTC.
        upload_minutes: as in the settings. A minute that waits for its upload is not stale.
    """
    due = newest_due(interval, newest_closed(interval, server_time, GRACE), upload_minutes)
    late = sorted((at, symbol) for symbol, at in state.newest.items() if at < due)
    if not state.newest:
        reported = f"No ingest run of {interval} has stored anything yet. Is the schedule on?"
        return Verdict(fresh=False, description=reported)
    newest = max(state.newest.values())
    if not late:
        reported = f"Stored up to {moment(due)}: {counted(len(state.newest), 'symbol')}."
        return Verdict(fresh=True, description=reported, newest=newest)
    oldest, symbol = late[0]
    return Verdict(
        fresh=False,
        description=(
            f"{len(late)} of {len(state.newest)} symbols are stale; the oldest, {symbol}, ends at "
            f"{moment(oldest)}, {moment(due)} is due. Look at the latest runs of {ingest_job(interval)}."
        ),
        newest=newest,
        late=tuple((name, at) for at, name in late),
    )


def judge_interval(
    store: ObjectStore, settings: Settings, interval: Interval, server_time: datetime
) -> Verdict:
    """Return which symbols of those that are collected now are stale.

    Raises:
        ObjectStoreError: the lake does not answer.
    """
    state = read_ingest_state(store, interval, (), server_time)
    wanted = collected_now(read_universe(store), settings.symbols) if state.newest else {}
    listed_at = {symbol: times.listed_at for symbol, times in wanted.items()}
    collected = _of_collected(interval, state, listed_at, server_time)
    return judge(interval, collected, server_time, settings.ingest.upload_minutes)


def judge_all(
    store: ObjectStore, settings: Settings, server_time: datetime
) -> dict[Interval, Verdict]:
    """Return the verdict of every interval; see `judge_interval`."""
    return {each: judge_interval(store, settings, each, server_time) for each in Interval}


def due_reports(
    verdicts: Mapping[Interval, Verdict], reported: Mapping[str, list[str]]
) -> tuple[list[Interval], dict[str, list[str]]]:
    """Return the intervals to report to Dagster, and the reported state of each interval after that.

    Dagster shows a report until the next materialization, so a verdict is reported again once newer
    candles are stored. While nothing is stored, staleness is reported once.

    Args:
        verdicts: of each interval.
        reported: the state last reported of each interval that was ever reported.
    """
    now_reported = {
        interval.value: [
            "fresh" if verdict.fresh else "stale",
            (verdict.newest or EPOCH).isoformat(),
        ]
        for interval, verdict in verdicts.items()
        if verdict.fresh or verdict.stale(seen=verdict.stored or interval in reported)
    }
    due = [
        interval for interval in verdicts if now_reported.get(interval) != reported.get(interval)
    ]
    return due, {**reported, **now_reported}


def stale_alert(interval: Interval, verdict: Verdict) -> tuple[str, dict[str, str]]:
    """Return the text of an alert, and its details for a program."""
    asset = f"candle_objects_{interval}"
    details = {"asset": asset, "interval": interval.value, "error": verdict.description}
    return f"{asset} is stale. {verdict.description}", details


def _of_collected(
    interval: Interval, state: IngestState, listed_at: Mapping[str, datetime], server_time: datetime
) -> IngestState:
    """Return the state of the symbols that are collected now.

    The state remembers symbols that were delisted since, or taken out of the settings; judged with
    the others, they would be stale permanently. `listed_at` are the collected symbols.
    """
    if not state.newest:
        return state
    due = newest_closed(interval, server_time, GRACE)
    return IngestState(
        {
            # A symbol with nothing stored is stale too, once it has a candle that is due.
            symbol: state.newest.get(symbol, EPOCH)
            for symbol, listed in listed_at.items()
            if symbol in state.newest or listed <= due
        }
    )
