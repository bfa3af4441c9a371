"""Gaps of finished days: which of them a run can fill, what became of earlier requests, and which runs are
requested next. Causes of gaps are judged in coverage.py; days without a ledger are missed_days.py's.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from pipeline_assets.collection.coverage import fetchable
from pipeline_assets.collection.history_requests import MOST_RUNS, History, digest, next_at
from pipeline_assets.collection.missed_days import newest_first
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import DAYS_PER_RUN
from pipeline_assets.resources.candle_objects import first_stored_day
from pipeline_assets.resources.finalized_days import finalized_symbols
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError

if TYPE_CHECKING:
    import polars as pl

# The same gaps of a day are fetched so often: a candle that three fetches over two hours did not bring, such
# as a row that is always malformed, needs a person. A run that failed before its fetch does not count.
FETCHES = 3
_ROWS_A_RUN = 1_000_000
_LOG = logging.getLogger(__name__)


class Gaps(NamedTuple):
    """The fetchable gaps of an interval and day: symbols, count, and a name of exactly these candles."""

    symbols: tuple[str, ...]
    candles: int
    name: str


class Repair(NamedTuple):
    """The requests for the gaps of an interval and day.

    Attributes:
        gaps: the name of the gaps.
        shown: the ledger's event that showed the gaps first; it tells the same gaps at two times apart.
        due: when the gaps are to be requested next, UTC.
        requests: how often the gaps were requested, whatever became of the runs.
        fetches: how often the ledger showed the gaps again after a request.
        pending: whether the day has no newer ledger since the last request.
    """

    gaps: str
    shown: int
    due: datetime
    requests: int = 0
    fetches: int = 0
    pending: bool = False

    @property
    def given_up(self) -> bool:
        """Whether the gaps are not requested again."""
        return self.fetches >= FETCHES

    def asked(self, now: datetime) -> "Repair":
        """Return the repair with one more request counted."""
        requests = self.requests + 1
        return self._replace(requests=requests, due=next_at(now, requests), pending=True)

    def shown_again(self) -> "Repair":
        """Return the repair after a newer ledger that still shows the gaps."""
        return self._replace(fetches=self.fetches + self.pending, pending=False)


def fillable(
    ledger: "pl.DataFrame", since: Mapping[Interval, date], listed: Iterable[str]
) -> "pl.DataFrame":
    """Return the gaps that a run can fill, sorted by day, symbol and first open time.

    Args:
        ledger: gaps of any days.
        since: by interval, the first day whose gaps are filled.
        listed: the symbols that the exchange names now; it serves candles of no other.
    """
    import polars as pl

    known = pl.col("symbol").is_in(list(listed))
    begun = pl.any_horizontal(
        pl.lit(value=False),
        *(
            (pl.col("interval") == interval.value) & (pl.col("day") >= first)
            for interval, first in since.items()
        ),
    )
    return fetchable(ledger).filter(known & begun).sort("day", "symbol", "first")


def asked_for(store: ObjectStore, gaps: "pl.DataFrame") -> "pl.DataFrame":
    """Return the gaps within history that somebody requested.

    A ledger has all symbols. Where one symbol's history goes back three years, another's may begin today,
    and all its earlier days would look like gaps. A symbol's history begins with its oldest object, and
    includes any day that was finalized for it without a candle. Gaps of another cause than `not_fetched`
    were requested, since something was received for them.
    """
    import polars as pl

    never = pl.col("cause") == Cause.NOT_FETCHED
    symbols = gaps.filter(never).select("interval", "symbol").unique().rows()
    first_days = store.each(lambda key: first_stored_day(store, Interval(key[0]), key[1]), symbols)
    begun = pl.DataFrame(
        [(*key, day) for key, day in zip(symbols, first_days, strict=True)],
        schema={"interval": pl.String, "symbol": pl.String, "first_day": pl.Date},
        orient="row",
    )
    message = gaps.join(begun, on=("interval", "symbol"), how="left", maintain_order="left")
    before = never & (pl.col("first_day").is_null() | (pl.col("day") < pl.col("first_day")))
    days = message.filter(before).select("interval", "day").unique().rows()
    marks = store.each(lambda key: finalized_symbols(store, Interval(key[0]), key[1]), days)
    finalized = pl.DataFrame(
        [(*key, symbol) for key, held in zip(days, marks, strict=True) for symbol in held],
        schema={"interval": pl.String, "day": pl.Date, "symbol": pl.String},
        orient="row",
    )
    unasked = message.filter(before).join(finalized, on=finalized.columns, how="anti")
    keys = ["interval", "day", "symbol", "first"]
    return gaps.join(unasked, on=keys, how="anti", maintain_order="left")


def by_interval(gaps: "pl.DataFrame") -> dict[Interval, Gaps]:
    """Return a day's gaps by interval; intervals without a gap are left out."""
    import polars as pl

    found = {}
    for interval in Interval:
        own = gaps.filter(pl.col("interval") == interval.value)
        if own.height:
            symbols = own["symbol"].unique(maintain_order=True).to_list()
            found[interval] = Gaps(tuple(symbols), int(own["count"].sum()), _name(own, interval))
    return found


def _name(gaps: "pl.DataFrame", interval: Interval) -> str:
    """Return a name of exactly these candles, whatever the cause of each."""
    runs: list[tuple[str, datetime, datetime]] = []
    for symbol, first, last in gaps.select("symbol", "first", "last").rows():
        # The ledger has one gap of two causes as two rows.
        if runs and runs[-1][0] == symbol and runs[-1][2] + interval.span == first:
            runs[-1] = (symbol, runs[-1][1], last)
        else:
            runs.append((symbol, first, last))
    return digest(" ".join(map(str, run)) for run in runs)


def shown_gaps(
    store: ObjectStore,
    days: Sequence[date],
    since: Mapping[Interval, date],
    listed: Sequence[str],
    *,
    everything: bool,
) -> dict[date, dict[Interval, Gaps]]:
    """Return the fillable gaps that the ledger shows now, for those of the days that have a ledger.

    With `everything`, gaps of symbols whose history was not requested are included.
    """
    import polars as pl

    def read(day: date) -> "pl.DataFrame | None":
        try:
            ledger = read_gaps(store, day)
        except DamagedObjectError as error:
            # One damaged ledger must not keep the other days from being repaired.
            _LOG.warning("The ledger of %s is passed over: %s", day, error)
            return None
        return None if ledger is None else fillable(ledger, since, listed)

    read_days = zip(days, store.each(read, days), strict=True)
    ledgers = {day: ledger for day, ledger in read_days if ledger is not None}
    if not ledgers:
        return {}
    gaps = pl.concat(ledgers.values())
    wanted = gaps if everything else asked_for(store, gaps)
    return {day: by_interval(wanted.filter(day=day)) for day in ledgers}


def updated(
    repairs: Mapping[tuple[Interval, date], Repair],
    day: date,
    found: Mapping[Interval, Gaps],
    shown: int,
    now: datetime,
) -> dict[tuple[Interval, date], Repair]:
    """Return the repairs after a day's new ledger: the same gaps keep their requests, others are due."""
    left = {key: each for key, each in repairs.items() if key[1] != day}
    for interval, gaps in found.items():
        known = repairs.get((interval, day))
        same = known is not None and known.gaps == gaps.name
        left[interval, day] = (
            known.shown_again() if known and same else Repair(gaps.name, shown, now)
        )
    return left


def next_due(
    due: Iterable[tuple[Interval, date]], most: int = MOST_RUNS
) -> list[tuple[Interval, date]]:
    """Return the newest of the due days, no more than `most` runs can cover."""
    taken: list[tuple[Interval, date]] = []
    # By interval the first day of the run that earlier days may join, and how many days it has.
    newest: dict[Interval, tuple[date, int]] = {}
    runs = 0
    for interval, day in newest_first(due):
        first, days = newest.get(interval, (day, 0))
        joins = 0 < days < DAYS_PER_RUN and first == day + DAY
        if not joins and runs == most:
            continue
        runs += not joins
        newest[interval] = (day, days + 1 if joins else 1)
        taken.append((interval, day))
    return taken


def runs_of(due: Mapping[tuple[Interval, date], Gaps], most: int = MOST_RUNS) -> list[History]:
    """Return at most `most` runs over the due days, newest first, minutes before 15m and 1h.

    Neighbouring days are one run of at most a month and a million rows.
    """
    runs: list[History] = []
    # By interval the place of the run that earlier days may join.
    newest: dict[Interval, int] = {}
    for interval, day in newest_first(due):
        symbols = due[interval, day].symbols
        place = newest.get(interval)
        if place is not None and runs[place].first == day + DAY:
            united = tuple(sorted({*runs[place].symbols, *symbols}))
            joined = runs[place]._replace(first=day, symbols=united)
            if _fits(joined):
                runs[place] = joined
                continue
        if len(runs) < most:
            newest[interval] = len(runs)
            runs.append(History(interval, day, day, symbols))
    return runs


def _fits(run: History) -> bool:
    rows = run.days * len(run.symbols) * run.interval.per_day
    return run.days <= DAYS_PER_RUN and rows <= _ROWS_A_RUN
