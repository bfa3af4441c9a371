"""A backtest over the lake: its request from the settings, and the refusal of spans with missing days. The
engine is in backtest.py, readers of the lake are in readers.py.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from pipeline_assets.errors import DataError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.windows import Window
from pipeline_assets.research import report_text
from pipeline_assets.research.backtest import run_backtest
from pipeline_assets.research.backtest_request import check, universe
from pipeline_assets.research.backtest_types import (
    BacktestRequest,
    BacktestResult,
    NoCandlesError,
    Progress,
)
from pipeline_assets.research.readers import LakeCandles, lake_documents
from pipeline_assets.resources.candle_objects import list_objects, window_start
from pipeline_assets.resources.finalized_days import finalized_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_DAY = timedelta(days=1)
_NAMED = 5


class MissingDaysError(DataError):
    """Days of the span have no candle. The message names them and says how to fetch them."""


def request_of(
    settings: Settings,
    strategies: Sequence[Strategy],
    symbols: Sequence[str] | None,
    start: date,
    end: date,
    capital: Decimal | None = None,
) -> BacktestRequest:
    """Return the request for whole UTC days under the settings.

    Args:
        settings: the settings.
        strategies: in the order of the settings.
        symbols: None takes every symbol that was listed in the span.
        start: the first day.
        end: the day before which to stop.
        capital: None takes that of the settings.
    """
    held = settings.backtest
    return BacktestRequest(
        strategies=strategies,
        symbols=symbols,
        start=datetime.combine(start, time(), UTC),
        end=datetime.combine(end, time(), UTC),
        capital=_decimal(held.capital) if capital is None else capital,
        model=FillModel(held.fill_delay, _decimal(held.slippage), held.max_positions),
    )


def newest_request(
    store: ObjectStore, settings: Settings, strategies: Sequence[Strategy], days: int
) -> BacktestRequest:
    """Return the request for so many of the newest finalized days, and the symbols of the settings.

    Raises:
        NoCandlesError: no day of 1m candles is finalized.
    """
    finalized = finalized_days(store, Interval.ONE_MINUTE)
    if not finalized:
        raise NoCandlesError(
            "No day of 1m candles is finalized yet. Materialize a day of candle_objects_1m first, or fetch "
            "some: pipeline-assets backfill --interval 1m."
        )
    end = finalized[-1] + _DAY
    start = max(end - days * _DAY, finalized[0])
    symbols = None if settings.symbols == "all" else settings.symbols
    return request_of(settings, strategies, symbols, start, end)


def _decimal(value: float) -> Decimal:
    """Return a setting as it is written there; the step calculates with eight decimals."""
    return Decimal(f"{value:.8f}".rstrip("0").rstrip("."))


def run_stored(
    store: ObjectStore,
    request: BacktestRequest,
    candles: LakeCandles,
    *,
    skip_missing: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BacktestResult:
    """Run a backtest over the lake.

    Args:
        store: the lake.
        request: what to run.
        candles: the reader of the lake's candles.
        skip_missing: go on although days have no candle; these are gaps then.
        progress: as in `run_backtest`.

    Raises:
        BacktestInputError: the request cannot be run, or every signal was too large for the capital.
        MissingDaysError: days have no candle, and they are not to be skipped.
        NoCandlesError: no candle is stored at all.
        DamagedObjectError: an object is damaged, and the reader leaves none out.
    """
    check(request)
    listed = candles.listed()
    symbols = universe(request, listed)
    if not skip_missing and (missing := missing_days(store, request, symbols, listed)):
        raise MissingDaysError(_missing_text(missing))
    return run_backtest(request, candles, candles.funding, lake_documents(store), progress)


def missing_days(
    store: ObjectStore,
    request: BacktestRequest,
    symbols: Sequence[str],
    listed: Mapping[str, Sequence[Window]],
) -> dict[str, list[date]]:
    """Return, by symbol, the UTC days of a span on which it was listed and no candle is stored.

    A span without any candle is not reported: the engine's own error says so.
    """
    days = [
        request.start.date() + number * _DAY
        for number in range((request.end - request.start + _DAY - timedelta.resolution) // _DAY)
    ]

    def of(symbol: str) -> list[date]:
        stored = list_objects(store, Interval.ONE_MINUTE, symbol, request.start, request.end)
        held = {start.date() for each in stored if (start := window_start(each.key)) is not None}
        return [day for day in days if day not in held and _was_listed(symbol, day, listed)]

    found = dict(zip(symbols, store.each(of, symbols), strict=True))
    if all(len(each) == len(days) for each in found.values()):
        return {}
    return {symbol: each for symbol, each in found.items() if each}


def _was_listed(symbol: str, day: date, listed: Mapping[str, Sequence[Window]]) -> bool:
    midnight = datetime.combine(day, time(), UTC)
    return symbol not in listed or any(
        each.start < midnight + _DAY and each.end > midnight for each in listed[symbol]
    )


def _missing_text(missing: Mapping[str, Sequence[date]]) -> str:
    named = [f"{symbol} {report_text.spans(days)}" for symbol, days in sorted(missing.items())]
    days = [day for each in missing.values() for day in each]
    symbols = ",".join(sorted(missing)[:_NAMED])
    return (
        f"Days without a stored candle: {report_text.listed(named)}. Fetch them: pipeline-assets backfill "
        f"--interval 1m --symbols {symbols} --start {min(days)} --end {max(days) + _DAY}. Or go on over what "
        "is stored: --skip-missing."
    )
