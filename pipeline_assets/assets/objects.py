"""The upload: formatted candles to candle objects, and the checks on what this run stored. How an
object is written is in resources/candle_objects.py; checks of whole finished days are in checks.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import Finding, report
from pipeline_assets.assets.inputs import Step
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import failures, moment, table
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.aggregation import zero_volume_share
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.cleaning import CUT_SHORT
from pipeline_assets.market.gap_causes import spans
from pipeline_assets.market.gaps import Expected, expected_frame, expected_open_times, gaps
from pipeline_assets.market.intervals import DAY, Interval, to_milliseconds
from pipeline_assets.market.windows import (
    Window,
    common,
    day_window,
    days_of,
    hull,
    joined,
    object_window,
    without,
)
from pipeline_assets.resources.candle_objects import (
    WrittenObject,
    by_day,
    list_objects,
    object_key,
    prefix,
    seal_day,
    write_candles,
)
from pipeline_assets.resources.finalized_days import (
    STABLE_AFTER,
    Absence,
    Rejected,
    SealedDay,
    mark_sealed,
    read_sealed,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, Staged, read_frames, write_document
from pipeline_assets.resources.tick_state import TickState, read_tick_state, write_tick_state

if TYPE_CHECKING:
    import polars as pl

# A symbol whose minutes are mostly without a trade is rare; many such minutes in a liquid symbol
# were, in the exchange's archive, a fault (FACTS). Below this many rows a share says nothing.
_ZERO_VOLUME_SHARE = 0.5
_ZERO_VOLUME_ROWS = 30


# In the metadata: how many symbol-days may lack candles that the exchange has.
INCOMPLETE = "symbol-days to fetch again"


@dataclass
class Stored:
    """What a run has stored so far, and what it saw of it."""

    written: list[WrittenObject] = field(default_factory=list)
    gaps: "list[pl.DataFrame]" = field(default_factory=list)
    zero_volume: "list[pl.DataFrame]" = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    newest: date | None = None


def candle_objects(interval: Interval) -> AssetsDefinition:
    """The asset of the candle objects of one interval, with the checks `window` and `zero_volume`."""
    key = layer.key(layer.OBJECTS, interval)

    @asset(
        **layer.options(layer.OBJECTS, interval),
        deps=[layer.key(layer.FORMATTED, interval)],
        kinds={"s3", "parquet"},
        check_specs=[
            AssetCheckSpec(
                "window",
                asset=key,
                partitions_def=daily_partitions,
                description="Every candle of the window that this run read is there, for every symbol.",
            ),
            AssetCheckSpec(
                "zero_volume",
                asset=key,
                partitions_def=daily_partitions,
                description="No symbol has mostly minutes without a trade. Such rows are kept.",
            ),
        ],
        description=(
            f"Candle objects `ohlcv/{interval}/{{symbol}}/{{yyyyMMdd_HHmm}}.parquet`. The open day is "
            "rewritten as it grows; a finished day is sealed into one object."
        ),
    )
    def upload(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        step = Step.of(context, store, interval, layer.name(layer.OBJECTS, interval))
        stored = Stored()
        with step.rows(Output.FORMATTED) as formatted:
            plan = formatted.plan
            state = (
                read_tick_state(store, interval, plan.listed, plan.newest)
                if plan.ticks
                else TickState()
            )
            for frame in formatted.frames:
                _observe(plan, frame, stored)
                symbols = frame["symbol"].unique(maintain_order=True).to_list()
                stored.written += _store(store, plan, state, frame, symbols)
        # Of these no row came; what is stored of them is put together all the same.
        absent = sorted(plan.windows.keys() - stored.seen - plan.failures.keys())
        stored.written += _store(store, plan, state, empty_candles(), absent)
        _observe_absent(plan, stored)
        keys = [each.key for each in stored.written]
        sealed = (
            {}
            if plan.ticks
            else _sealed(store, plan, stored, _set_aside(store, plan, formatted.source))
        )
        document = {
            "objects": keys,
            "sealed": {
                day.isoformat(): {symbol: mark.to_dict() for symbol, mark in marks.items()}
                for day, marks in sealed.items()
            },
        }
        step.keep_plan(plan, formatted.source)
        write_document(store, step.own.key(Output.OBJECTS), document)
        # A day that goes on into a table is sealed once it is there (tables.py): what is sealed and
        # complete is not fetched again, and so not loaded again either.
        if not interval.has_table:
            store.each(lambda each: mark_sealed(store, interval, *each), sealed.items())
        if plan.ticks:
            # A tick of a few symbols that a person asked for says nothing about the others.
            collected = {*plan.listed, *(state.newest if plan.asked else ())}
            write_tick_state(store, interval, state.after(stored.written, collected))
        incomplete = sum(not mark.complete for marks in sealed.values() for mark in marks.values())
        yield MaterializeResult(
            metadata={**_metadata(store, plan, stored), INCOMPLETE: incomplete}
            if sealed
            else _metadata(store, plan, stored)
        )
        yield from _checks(context, plan, stored, sealed)

    return upload


def _store(
    store: ObjectStore,
    plan: FetchPlan,
    state: TickState,
    frame: "pl.DataFrame",
    symbols: Sequence[str],
) -> list[WrittenObject]:
    """Write the objects of whole symbols, and join what is stored of them; all are tried first."""
    finished = [day for day in plan.days if plan.finished(day)]
    pieces, nothing = dict(_pieces(plan, frame)), frame.clear()
    existing: dict[tuple[str, date], Any] = {}
    if finished and not plan.ticks:
        span = Window(day_window(finished[0]).start, day_window(finished[-1]).end)
        listings = store.each(
            lambda symbol: list_objects(store, plan.interval, symbol, span.start, span.end), symbols
        )
        for symbol, listing in zip(symbols, listings, strict=True):
            complete = plan.complete.get(symbol, ())
            for day, objects in by_day(listing).items():
                if day not in complete:
                    existing[symbol, day] = objects
    wanted = sorted(
        set(pieces) | {(symbol, day_window(day)) for symbol, day in existing if plan.finished(day)}
    )

    def write(piece: tuple[str, Window]) -> WrittenObject:
        symbol, window = piece
        candles = pieces.get(piece, nothing)
        day = window.start.date()
        if plan.finished(day) and not plan.ticks:
            objects = existing.get((symbol, day), [])
            return seal_day(store, plan.interval, day, candles, objects)
        etag = _replaceable(plan, state, window, candles)
        return write_candles(store, plan.interval, window, candles, etag)

    # A symbol's objects of the open day are written in order of time: when a run dies in between,
    # the newest object still says how far the day is stored (tick_state rebuilds its state by it).
    rows: dict[tuple[str, date], list[tuple[str, Window]]] = {}
    for symbol, window in wanted:
        rows.setdefault((symbol, window.start.date()), []).append((symbol, window))
    written = store.each(lambda row: [write(piece) for piece in row], list(rows.values()))
    return [each for row in written for each in row]


def _replaceable(
    plan: FetchPlan, state: TickState, window: Window, candles: "pl.DataFrame"
) -> str | None:
    """The ETag of the stored object that these rows may replace unread; None: join the stored rows.

    They may if they hold every candle that ticks have stored in it. A reply with a hole does not,
    nor does an older fetch whose upload is executed again after newer ticks.
    """
    symbol = str(candles["symbol"][0])
    fetched = plan.windows[symbol]
    due = Window(max(window.start, fetched.start), min(window.end, fetched.end))
    newest = state.newest.get(symbol)
    if candles.height < due.candles(plan.interval) or (newest and newest >= fetched.end):
        return None
    return state.etags.get(object_key(plan.interval, symbol, window.start))


def _pieces(
    plan: FetchPlan, frame: "pl.DataFrame"
) -> Iterator[tuple[tuple[str, Window], "pl.DataFrame"]]:
    """The rows of a candle frame by symbol and object window, as slices: partition_by copies each."""
    import polars as pl

    piece = plan.interval.definition.open_object
    open_day = day_window(plan.newest.date()).start
    opens = pl.col("open_time")
    start = opens.dt.truncate("1d")
    if piece < DAY:
        start = pl.when(opens < open_day).then(start).otherwise(opens.dt.truncate(piece))
    # Rows are sorted, so a piece is a run of them.
    runs = frame.select(pl.struct("symbol", start.alias("start")).rle().alias("run")).unnest("run")
    first = 0
    for count, value in runs.rows():
        symbol, begins = value["symbol"], value["start"]
        window = object_window(plan.interval, begins, finished=plan.finished(begins.date()))
        yield (symbol, window), frame.slice(first, count)
        first += count


def _observe(plan: FetchPlan, frame: "pl.DataFrame", stored: Stored) -> None:
    runs = frame["symbol"].rle().struct.unnest()
    counts = dict(zip(runs["value"], runs["len"], strict=True))
    stored.seen.update(counts)
    newest = frame["open_time"].max()
    if isinstance(newest, datetime):
        stored.newest = max(newest.date(), stored.newest or newest.date())
    # Rows are one for each open time of the grid within the window: so many are all of them.
    short = [s for s, count in counts.items() if count < plan.windows[s].candles(plan.interval)]
    if short or not stored.gaps:
        stored.gaps.append(gaps(frame, plan.interval, _expected(plan, short)))
    stored.zero_volume.append(zero_volume_share(frame))


def _observe_absent(plan: FetchPlan, stored: Stored) -> None:
    """Symbols of which no row came at all."""
    absent = sorted(plan.windows.keys() - stored.seen)
    if absent:
        stored.gaps.append(gaps(empty_candles(), plan.interval, _expected(plan, absent)))


def _expected(plan: FetchPlan, symbols: Iterable[str]) -> "pl.DataFrame":
    return expected_frame({symbol: _all_of(plan, plan.windows[symbol]) for symbol in symbols})


def _all_of(plan: FetchPlan, window: Window) -> Expected | None:
    # The plan's windows are cut to listing, delisting and the newest closed candle already.
    return expected_open_times(plan.interval, window, None, None, None)


def _set_aside(store: ObjectStore, plan: FetchPlan, source: Staged) -> dict[str, list[Rejected]]:
    """By symbol the candles in whose place came a row that is none, as far as it says when."""
    import polars as pl

    key = source.set_aside
    if not plan.windows or not store.holds(key):
        return {}
    asked = hull(list(plan.windows.values()))
    # A row may be there because its time is nonsense, which no timestamp could hold.
    within = pl.col("open_time").is_between(
        to_milliseconds(asked.start), to_milliseconds(asked.end), closed="left"
    )
    time = pl.col("open_time").mul(1000).cast(pl.Datetime("us", "UTC"))
    found: dict[str, list[Rejected]] = {}
    with read_frames(store, key) as frames:
        for frame in frames:
            rows = frame.filter(within).with_columns(opens=time)
            times = rows.select("symbol", open_time="opens")
            for symbol, start, end in spans(times, plan.interval).rows():
                own = rows.filter(
                    pl.col("symbol") == symbol, pl.col("opens") >= start, pl.col("opens") < end
                ).drop("opens")
                digest = hashlib.sha256("\n".join(sorted(map(repr, own.rows()))).encode())
                found.setdefault(symbol, []).append(
                    Rejected(
                        Window(start, end),
                        str(own["reason"][0]),
                        digest.hexdigest()[:16],
                        source.run,
                        plan.now(),
                    )
                )
    return found


def _sealed(
    store: ObjectStore, plan: FetchPlan, stored: Stored, set_aside: Mapping[str, Sequence[Rejected]]
) -> dict[date, dict[str, SealedDay]]:
    """The marks of the finished days that this run fetched, by day and symbol."""
    days = [day for day in plan.days if plan.finished(day)]
    marks: dict[date, dict[str, SealedDay]] = {day: {} for day in days}
    # An exchange that has nothing of any symbol is not believed to have nothing, unless a later candle or
    # something else shows that it has not lost the day.
    believed = [
        day
        for day in days
        if day in plan.witnessed or (stored.newest is not None and day <= stored.newest)
    ]
    objects = {each.key: each for each in stored.written}
    odd_days = {day for rows in set_aside.values() for each in rows for day in days_of(each.window)}
    before = {day: read_sealed(store, plan.interval, day) for day in sorted(odd_days & set(days))}
    for symbol in plan.windows.keys() - plan.failures.keys():
        fetched, confirmed = plan.spans(symbol), plan.confirmed.get(symbol, ())
        for day in believed:
            window = day_window(day)
            written = objects.get(object_key(plan.interval, symbol, window.start))
            absent = (window,) if written is None else written.missing
            due = common(window, fetched)
            missing = [part for gap in absent for part in common(gap, due)]
            if due:
                # Of a candle that is stored all the same, such as one that came twice, nothing is noted.
                rows = [
                    each
                    for each in set_aside.get(symbol, ())
                    if any(common(gap, [each.window]) for gap in missing)
                ]
                odd = _since(rows, before.get(day, {}).get(symbol))
                marks[day][symbol] = SealedDay(
                    written.etag if written else None,
                    _judged(missing, confirmed, odd),
                    None if due == [window] else hull(due),
                    tuple(each.rows for each in odd),
                )
    return marks


@dataclass(frozen=True)
class _Odd:
    """Rejected rows as they came first, and whether another run received the same ones since."""

    rows: Rejected
    stable: bool


def _since(rows: Sequence[Rejected], before: SealedDay | None) -> list[_Odd]:
    """Set rejected rows against those of the day's earlier mark.

    A fault on the way damages other rows, or otherwise, the next time. A candle that the exchange cut
    short is stable once another run receives it again; any other row only hours later, since what the
    exchange stores may still be put right.
    """
    known = {(each.window, each.digest): each for each in (before.rejected if before else ())}
    found = []
    for each in rows:
        first = known.get((each.window, each.digest), each)
        again = first.run != each.run
        waited = each.at - first.at >= STABLE_AFTER or each.reason == CUT_SHORT
        found.append(_Odd(first, again and waited))
    return found


def _judged(
    missing: Sequence[Window], confirmed: Sequence[Window], rejected: Sequence[_Odd]
) -> tuple[tuple[Window, Absence], ...]:
    """What is missing, and what is known of each part."""
    windows = [each.rows.window for each in rejected]
    # What the exchange confirmed it will not serve better, whatever row came before.
    odd = {
        stable: [
            part
            for each in joined(each.rows.window for each in rejected if each.stable is stable)
            for part in without(each, confirmed)
        ]
        for stable in (True, False)
    }
    parts = [
        (part, absence)
        for gap in missing
        for absence, found in (
            (Absence.CONFIRMED, common(gap, confirmed)),
            (Absence.INVALID, common(gap, odd[True])),
            (Absence.SET_ASIDE, common(gap, odd[False])),
            (Absence.UNCONFIRMED, without(gap, [*confirmed, *windows])),
        )
        for part in found
    ]
    return tuple(sorted(parts))


def _metadata(store: ObjectStore, plan: FetchPlan, stored: Stored) -> dict[str, Any]:
    newest: dict[str, datetime] = {}
    rows: dict[str, int] = {}
    for each in stored.written:
        newest[each.symbol] = max(each.newest, newest.get(each.symbol, each.newest))
        rows[each.symbol] = rows.get(each.symbol, 0) + each.rows
    columns = {"symbol": "string", "rows": "int", "newest open time": "string"}
    oldest_first = sorted(newest, key=lambda symbol: (newest[symbol], symbol))
    metadata: dict[str, Any] = {
        "rows": sum(rows.values()),
        "symbols": len(rows),
        "objects": len(stored.written),
        "objects changed": sum(each.changed for each in stored.written),
        "S3 prefix": store.address(prefix(plan.interval)),
        "least fresh symbols": table(
            columns, ((s, rows[s], moment(newest[s])) for s in oldest_first)
        ),
        **failures(plan),
    }
    if newest:
        latest = max(newest.values())
        metadata["newest open time"] = moment(latest)
        if plan.ticks:
            lag = plan.now() - latest - plan.interval.span
            metadata["lag (s)"] = round(lag / timedelta(seconds=1), 3)
    return metadata


def _checks(
    context: AssetExecutionContext,
    plan: FetchPlan,
    stored: Stored,
    sealed: Mapping[date, Mapping[str, SealedDay]],
) -> Iterator[AssetCheckResult]:
    import polars as pl

    key = layer.key(layer.OBJECTS, plan.interval)
    missing = pl.concat(stored.gaps) if stored.gaps else None
    # A tick does what is due now, whatever day its partition is.
    windows = {
        day: _window_finding(
            plan, plan.newest.date() if plan.ticks else day, missing, sealed.get(day, {})
        )
        for day in plan.days
    }
    zero = _zero_volume_finding(pl.concat(stored.zero_volume) if stored.zero_volume else None)
    yield report(context, key, "window", windows)
    yield report(
        context,
        key,
        "zero_volume",
        dict.fromkeys(plan.days, zero),
        severity=AssetCheckSeverity.WARN,
    )


def gap_records(
    plan: FetchPlan, missing: "pl.DataFrame | None", day: date
) -> list[tuple[str, str, str, int]]:
    """The parts of each gap that lie in a day: symbol, from, until (excluded), candles missing.

    Of a symbol that was listed anew nothing is missing between its listings.
    """
    import polars as pl

    if missing is None:
        return []
    window = day_window(day)
    touching = missing.filter((pl.col("start") < window.end) & (pl.col("end") > window.start))
    parts = touching.select(
        "symbol", pl.col("start").clip(window.start), pl.col("end").clip(upper_bound=window.end)
    )
    return [
        (symbol, moment(part.start), moment(part.end), part.candles(plan.interval))
        for symbol, start, end in parts.rows()
        for part in without(Window(start, end), plan.pauses.get(symbol, ()))
    ]


GAP_COLUMNS = {"symbol": "string", "from": "string", "until": "string", "missing": "int"}


def _window_finding(
    plan: FetchPlan, day: date, missing: "pl.DataFrame | None", sealed: Mapping[str, SealedDay]
) -> Finding:
    # What was stored before may be what a reply lacks: a mark says what the object itself does, and
    # what is confirmed not to exist is not missing.
    marked = [
        (symbol, moment(span.start), moment(span.end), span.candles(plan.interval))
        for symbol, mark in sealed.items()
        for span in joined(mark.to_fetch)
    ]
    unmarked = [
        record
        for record in gap_records(plan, missing, day)
        if record[0] not in sealed and day not in plan.complete.get(record[0], ())
    ]
    records = sorted(marked + unmarked)
    problems = []
    if plan.failures:
        count = len(plan.failures)
        first = plan.failures[min(plan.failures)].rstrip(".")
        problems.append(f"{count} symbol{'s' if count > 1 else ''} failed, the first: {first}")
    if records:
        symbol, start, until, _ = records[0]
        problems.append(
            f"{sum(record[3] for record in records)} candles are missing, the first of {symbol} from "
            f"{start} until {until}"
        )
    return Finding(
        passed=not problems,
        description=". ".join(problems) or "Every candle of the window is there.",
        metadata={"missing": table(GAP_COLUMNS, records), **failures(plan)} if problems else {},
    )


def _zero_volume_finding(shares: "pl.DataFrame | None") -> Finding:
    import polars as pl

    if shares is None:
        return Finding(passed=True, description="No rows.")
    worst = shares.filter(
        (pl.col("rows") >= _ZERO_VOLUME_ROWS) & (pl.col("share") > _ZERO_VOLUME_SHARE)
    ).sort("share", descending=True)
    total, zero = shares["rows"].sum(), shares["zero_volume"].sum()
    columns = {"symbol": "string", "rows": "int", "zero volume": "int", "share": "float"}
    return Finding(
        passed=worst.is_empty(),
        description=f"{zero} of {total} candles have no volume"
        + (f"; {worst.height} symbols mostly." if worst.height else "."),
        metadata={"symbols": table(columns, worst.rows())} if worst.height else {},
    )
