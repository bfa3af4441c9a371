"""The plan of a run over funding rates: which symbols settle, what is stored of them, and which months are
requested again. Fetching and storing is in funding.py, the report in funding_report.py.

A request brings a month as cheaply as a day. So a run over days of a past month fetches the whole month,
and a run over other days of the same month has nothing left to fetch.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.chosen_symbols import Request, choose
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.funding_intervals import PUBLISHED_WITHIN, USUAL_HOURS, missing_times
from pipeline_assets.market.intervals import DAY, HOUR
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import Window, common, day_window
from pipeline_assets.resources.funding_objects import (
    StoredMonth,
    month_window,
    months_of,
    stored_month,
)
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl

    from pipeline_assets.resources.exchange_funding import FundingClient


@dataclass(frozen=True)
class FundingUnit:
    """A request to send: one symbol's rates of one month, or of what is due of it.

    Attributes:
        symbol: whose.
        month: the first day of the month.
        window: what is requested, within the month.
        archive: whether the archive's file of the month is tried first.
    """

    symbol: str
    month: date
    window: Window
    archive: bool = False


@dataclass
class FundingPlan:
    """One run's plan.

    Attributes:
        kind: why the run was launched.
        days: the days of its partitions, ascending.
        now: the exchange's time, UTC.
        listed: the symbols, and when each trades.
        current: the hours between settlements at present, where the exchange stated them.
        pauses: spans between two listings of a symbol, in which nothing settles.
        held: what is stored, by symbol and month; completed as the run stores more.
        units: what is requested.
        stored_before: how many symbol-months the lake held complete.
        failures: symbols that could not be planned, fetched or read, with the reason.
        gone: symbols that the exchange does not name any more, with the reason.
    """

    kind: RunKind
    days: list[date]
    now: datetime
    listed: dict[str, Listed] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    pauses: dict[str, list[Window]] = field(default_factory=dict)
    held: dict[str, dict[date, StoredMonth]] = field(default_factory=dict)
    units: list[FundingUnit] = field(default_factory=list)
    stored_before: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    @property
    def due_until(self) -> datetime:
        """The time before which the exchange has published every rate."""
        return self.now - PUBLISHED_WITHIN

    def life(self, symbol: str, window: Window) -> Window | None:
        """Return the part of a window in which a symbol traded, up to now."""
        listed = self.listed[symbol]
        start = max(window.start, listed.listed_at)
        end = min(window.end, self.due_until, listed.delisted_at or window.end)
        return Window(start, end) if start < end else None

    def rates(self, symbol: str) -> "pl.DataFrame":
        """Return all rates of a symbol that the run knows."""
        import polars as pl

        from pipeline_assets.market.funding import empty_funding

        held = self.held.get(symbol, {})
        return pl.concat([empty_funding(), *(held[month].rates for month in sorted(held))])

    def missing(
        self, symbol: str, window: Window, more: "pl.DataFrame | None" = None
    ) -> list[datetime]:
        """Return the settlements within a window of which no rate is stored, nor in the rates `more`."""
        life = self.life(symbol, window)
        if life is None:
            return []
        # The exchange announces no first settlement: it follows a listing within one interval.
        start = max(life.start, self.listed[symbol].listed_at + USUAL_HOURS * HOUR)
        if start >= life.end:
            return []
        current = self.current.get(symbol) if life.end + DAY > self.due_until else None
        rates = self.rates(symbol)
        if more is not None:
            from pipeline_assets.market.funding_encoding import merge_funding

            rates = merge_funding(rates, more)
        found = missing_times(rates, start, life.end, current)
        pauses = self.pauses.get(symbol, ())
        return [each for each in found if not any(p.start <= each < p.end for p in pauses)]


def plan_funding(
    client: "FundingClient", store: ObjectStore, request: Request, *, archive: bool
) -> FundingPlan:
    """Plan a run over funding rates.

    Args:
        client: of the exchange.
        store: the lake.
        request: the run's request; its interval does not count.
        archive: whether past months are taken from the archive.

    Raises:
        SymbolError, PartitionError: the request names a symbol or day that cannot be.
        ExchangeUnreachableError, ExchangeBannedError: no request is answered.
    """
    now = client.server_time()
    days = partition_days(request.keys, now.date())
    chosen = choose(client, store, now, request)
    plan = FundingPlan(request.kind, days, now, pauses=chosen.pauses)
    plan.failures, plan.gone = chosen.failures, chosen.gone
    # Contracts with a delivery date, such as BTCUSDT_261225, have no funding.
    plan.listed = {symbol: each for symbol, each in chosen.listed.items() if "_" not in symbol}
    for symbol in set(request.asked or ()).intersection(chosen.listed).difference(plan.listed):
        plan.failures[symbol] = f"{symbol} has a delivery date, and so it has no funding rates."
    if days[-1] >= now.date() - DAY:
        plan.current = client.funding_intervals()
    span = Window(day_window(days[0]).start, day_window(days[-1]).end)
    found = store.each(lambda symbol: _held(store, plan, symbol, span), sorted(plan.listed))
    plan.held = dict(zip(sorted(plan.listed), found, strict=True))
    for symbol in sorted(plan.listed):
        due = _ingest_units if plan.kind is RunKind.INGEST else _month_units
        units = due(plan, symbol, span, refresh=request.refresh)
        plan.units += [
            FundingUnit(*unit, archive=archive and _past(plan, unit[1])) for unit in units
        ]
    return plan


def _past(plan: FundingPlan, month: date) -> bool:
    return plan.kind is RunKind.BACKFILL and month_window(month).end <= plan.due_until


def _held(
    store: ObjectStore, plan: FundingPlan, symbol: str, span: Window
) -> dict[date, StoredMonth]:
    """Read the months of the run's days and the days beside them; an ingest run reads the last one stored."""
    around = Window(span.start - DAY, max(min(span.end + DAY, plan.now), span.start))
    held = {month: stored_month(store, symbol, month) for month in months_of(around)}
    known = any((each.rates["funding_time"] < span.start).any() for each in held.values())
    if plan.kind is RunKind.INGEST and not known:
        earlier = (min(held) - DAY).replace(day=1)
        held[earlier] = stored_month(store, symbol, earlier)
    return held


_Unit = tuple[str, date, Window]


def _ingest_units(plan: FundingPlan, symbol: str, span: Window, *, refresh: bool) -> list[_Unit]:
    """Return the requests of an ingest run: from the last stored rate, or the day's start, to now."""
    times = plan.rates(symbol)["funding_time"]
    before = times.filter(times < span.start).max()
    start = before + HOUR if isinstance(before, datetime) else span.start
    whole = plan.life(symbol, Window(start, max(span.end, plan.now)))
    if whole is None:
        return []
    units = []
    for month in months_of(whole):
        [window] = common(whole, [month_window(month)])
        held = plan.held[symbol].get(month)
        if held is not None and held.damaged:
            window = plan.life(symbol, month_window(month)) or window
        elif not refresh and len(times) and not plan.missing(symbol, window):
            plan.stored_before += 1
            continue
        units.append((symbol, month, window))
    return units


def _month_units(plan: FundingPlan, symbol: str, span: Window, *, refresh: bool) -> list[_Unit]:
    """Return the requests of a run over days: each month in which a rate of these days is missing, whole."""
    units = []
    for month in months_of(span):
        [asked] = common(span, [month_window(month)])
        window = plan.life(symbol, month_window(month))
        if window is None or plan.life(symbol, asked) is None:
            continue
        held = plan.held[symbol].get(month)
        absent = held is None or held.damaged or held.rates.is_empty()
        if refresh or absent or plan.missing(symbol, asked):
            units.append((symbol, month, window))
        else:
            plan.stored_before += 1
    return units
