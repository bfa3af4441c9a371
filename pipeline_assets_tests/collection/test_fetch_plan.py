"""The plan of a run: which open times of which symbols, and that it survives being written down."""

import json
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.collection.fetch_plan import (
    FetchPlan,
    RunKind,
    day_windows,
    ingest_windows,
)
from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
SINCE_EVER = Listed(datetime(2020, 1, 1, tzinfo=UTC))

intervals = st.sampled_from(Interval)
moments = st.timedeltas(timedelta(days=-5), timedelta(days=5)).map(lambda by: MIDNIGHT + by)
symbols = st.sampled_from(["BTCUSDT", "ETHUSDT", "币安人生USDT", "1000PEPEUSDT"])


@st.composite
def listings(draw) -> Listed:
    since = draw(moments)
    later = st.timedeltas(timedelta(milliseconds=1), timedelta(days=6))
    return Listed(since, draw(st.none() | later.map(lambda after: since + after)))


@st.composite
def opened(draw, interval: Interval) -> datetime:
    """An open time on the interval's grid."""
    candles = draw(st.integers(0, 10 * DAY // interval.span - 1))
    return datetime(2026, 11, 15, tzinfo=UTC) + candles * interval.span


def open_times(interval: Interval, window: Window | None) -> list[datetime]:
    """Every grid point of a window, one by one."""
    if window is None:
        return []
    return [window.start + i * interval.span for i in range(window.candles(interval))]


@given(intervals, listings(), st.data())
def test_clipped_window_holds_traded_candles(interval, listed, data):
    """A clipped window holds exactly the candles that overlap the trading time."""
    start = data.draw(opened(interval))
    end = start + data.draw(st.integers(1, 2 * interval.per_day)) * interval.span
    clipped = listed.clip(interval, Window(start, end))
    overlapping = [
        at
        for at in open_times(interval, Window(start, end))
        if at + interval.span > listed.listed_at
        and (listed.delisted_at is None or at < listed.delisted_at)
    ]
    assert open_times(interval, clipped) == overlapping


def test_no_window_outside_the_listing() -> None:
    """A symbol has no window before its listing and none after its end."""
    listed = Listed(MIDNIGHT, MIDNIGHT + DAY)
    minute = Interval.ONE_MINUTE
    assert listed.clip(minute, Window(MIDNIGHT - DAY, MIDNIGHT)) is None
    assert listed.clip(minute, Window(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)) is None
    assert listed.clip(minute, Window(MIDNIGHT - DAY, MIDNIGHT + 2 * DAY)) == Window(
        MIDNIGHT, MIDNIGHT + DAY
    )


@given(intervals, st.dictionaries(symbols, listings(), min_size=1), st.data())
def test_ingest_never_plans_unclosed_candles(interval, listed, data):
    """An ingest run never plans an unclosed candle, and at most the candles of one day."""
    newest = data.draw(opened(interval))
    stored = data.draw(st.dictionaries(symbols, opened(interval).filter(lambda at: at <= newest)))
    windows = ingest_windows(interval, newest, listed, stored)
    for window in windows.values():
        assert window.end <= newest + interval.span
        assert window.start.date() == newest.date()
    for symbol, each in listed.items():
        trades = each.listed_at < newest + interval.span and (
            each.delisted_at is None or each.delisted_at > newest
        )
        if trades:
            assert windows[symbol].end == newest + interval.span


@given(intervals, st.data())
def test_ingest_reads_since_last_run(interval, data):
    """An ingest run reads everything since the last run of its day."""
    newest = data.draw(opened(interval))
    stored = data.draw(opened(interval).filter(lambda at: at <= newest))
    window = ingest_windows(interval, newest, {"BTCUSDT": SINCE_EVER}, {"BTCUSDT": stored})[
        "BTCUSDT"
    ]
    read = set(open_times(interval, window))
    at = newest
    while at > stored and at.date() == newest.date():
        assert at in read
        at -= interval.span


def test_mid_hour_is_one_cheap_request() -> None:
    """An ingest run in the middle of an hour reads that hour in one cheap request."""
    newest = MIDNIGHT + timedelta(hours=12, minutes=34)
    stored = {"BTCUSDT": newest - timedelta(minutes=1)}
    windows = ingest_windows(Interval.ONE_MINUTE, newest, {"BTCUSDT": SINCE_EVER}, stored)
    assert windows == {
        "BTCUSDT": Window(MIDNIGHT + timedelta(hours=12), newest + timedelta(minutes=1))
    }
    assert windows["BTCUSDT"].candles(Interval.ONE_MINUTE) <= 99


def test_new_hour_rereads_the_last() -> None:
    """In the first two minutes of an hour, the hour before is read once more."""
    for minute, begins in ((0, 11), (1, 11), (2, 12)):
        newest = MIDNIGHT + timedelta(hours=12, minutes=minute)
        stored = {"BTCUSDT": newest - timedelta(minutes=1)}
        windows = ingest_windows(Interval.ONE_MINUTE, newest, {"BTCUSDT": SINCE_EVER}, stored)
        assert windows["BTCUSDT"].start == MIDNIGHT + timedelta(hours=begins)


def test_new_symbol_reads_from_midnight() -> None:
    """A symbol without stored candles is read from the beginning of the day."""
    newest = MIDNIGHT + timedelta(hours=12, minutes=34)
    windows = ingest_windows(Interval.ONE_MINUTE, newest, {"BTCUSDT": SINCE_EVER}, {})
    assert windows["BTCUSDT"].start == MIDNIGHT


@given(intervals, st.dictionaries(symbols, listings(), min_size=1), st.data())
def test_range_plans_every_closed_candle(interval, listed, data):
    """A run over days plans every closed candle of these days."""
    newest = data.draw(opened(interval))
    first = data.draw(st.dates(date(2026, 11, 15), date(2026, 11, 24)))
    days = [first + timedelta(days=i) for i in range(data.draw(st.integers(1, 4)))]
    windows = day_windows(interval, newest, listed, days)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    whole = [begin + i * interval.span for i in range(len(days) * interval.per_day)]
    for symbol, each in listed.items():
        wanted = [
            at
            for at in whole
            if at <= newest
            and at + interval.span > each.listed_at
            and (each.delisted_at is None or at < each.delisted_at)
        ]
        assert open_times(interval, windows.get(symbol)) == wanted


@given(intervals, st.dictionaries(symbols, listings(), min_size=1), st.data())
def test_only_complete_days_are_left_out(interval, listed, data):
    """Only complete days are left out."""
    newest = data.draw(opened(interval))
    days = [date(2026, 11, 15) + timedelta(days=i) for i in range(data.draw(st.integers(1, 9)))]
    windows = day_windows(interval, newest, listed, days)
    finished = [day for day in days if day < newest.date()]
    complete = data.draw(
        st.dictionaries(
            st.sampled_from(sorted(listed)), st.lists(st.sampled_from(finished or days))
        )
    )
    plan = FetchPlan(interval, RunKind.BACKFILL, days, newest, timedelta(0), listed, dict(windows))
    plan.leave_out(complete)
    for symbol, window in windows.items():
        wanted = [
            at for at in open_times(interval, window) if at.date() not in complete.get(symbol, ())
        ]
        spans = plan.spans(symbol) if symbol in plan.windows else []
        assert [at for span in spans for at in open_times(interval, span)] == wanted
        if wanted:
            assert plan.windows[symbol] == Window(wanted[0], wanted[-1] + interval.span)


@st.composite
def plans(draw) -> FetchPlan:
    interval = draw(intervals)
    newest = draw(opened(interval))
    listed = draw(st.dictionaries(symbols, listings()))
    days = [newest.date()]
    return FetchPlan(
        interval=interval,
        kind=draw(st.sampled_from(RunKind)),
        days=days,
        newest=newest,
        clock_offset=draw(st.timedeltas(-timedelta(days=400), timedelta(days=400))),
        listed=listed,
        windows=day_windows(interval, newest, listed, days),
        failures=draw(st.dictionaries(symbols, st.text())),
        weight=draw(st.integers(0, 10_000)),
        asked=draw(st.booleans()),
        complete=draw(st.dictionaries(symbols, st.lists(st.just(newest.date()), max_size=1))),
        confirmed=draw(
            st.dictionaries(symbols, st.lists(st.just(Window(newest, newest + DAY)), max_size=2))
        ),
        pauses=draw(st.dictionaries(symbols, st.just([Window(newest - DAY, newest)]))),
        witnessed=draw(st.lists(st.just(newest.date()), max_size=1)),
    )


@given(plans())
def test_plan_survives_json(plan):
    """A plan read back from JSON is the plan that was written."""
    assert FetchPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_old_plan_is_read_on_reexecution():
    """A plan of an earlier version is read by steps that are executed again."""
    plan = FetchPlan(
        Interval.ONE_HOUR,
        RunKind.FINALIZE,
        [MIDNIGHT.date()],
        MIDNIGHT,
        DAY,
        {"BTCUSDT": SINCE_EVER},
        {},
    )
    written = plan.to_dict()
    for later in ("pauses", "witnessed"):
        del written[later]
    assert FetchPlan.from_dict(written) == plan
