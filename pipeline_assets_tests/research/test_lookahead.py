"""The look-ahead check: strategies of the product pass it, planted faults are caught and named."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.indicators import Ema, Indicator
from pipeline_assets.market.indicators.indicator import Candles
from pipeline_assets.market.strategies import configured_strategies, indicators_of, strategy_names
from pipeline_assets.market.strategy import (
    Condition,
    Declaration,
    Strategy,
    StrategyParameters,
    above,
    below,
)
from pipeline_assets.research.lookahead import (
    LookaheadReport,
    ShortHistoryError,
    candles_needed,
    check_strategies,
)
from pipeline_assets.settings import StrategySettings
from pipeline_assets_tests.market.series import FIRST, candles, market_minutes

MINUTES = 30
EMA = Ema(3)
(COLUMN,) = EMA.columns


def planted(long: Sequence[Condition], indicator: Indicator = EMA) -> Strategy:
    """A strategy of a few candles' warm-up with these conditions."""
    return Strategy("planted", "1", StrategyParameters(), Declaration((indicator,), tuple(long)))


def walk(number: int) -> pl.DataFrame:
    """Candles of a random walk."""
    steps = np.random.default_rng(3).normal(0, 1, number)
    return candles(list(100 + steps.cumsum()))


def judge(strategy: Strategy, minutes: int = MINUTES) -> LookaheadReport:
    return check_strategies(
        [strategy], {"BTCUSDT": walk(candles_needed([strategy], minutes))}, minutes
    )


@pytest.mark.parametrize("name", strategy_names())
def test_strategies_do_not_look_ahead(name: str) -> None:
    """Each strategy of the product, with its defaults, over recorded minutes up to its last signal."""
    [strategy] = strategies = configured_strategies([StrategySettings(name=name)])
    minutes = market_minutes("BTCUSDT")
    frame = indicators_of(strategies).history(minutes).select(strategy.side().alias("side"))
    last = int(frame["side"].is_not_null().arg_true()[-1])
    history = minutes.head(last + 10).tail(candles_needed(strategies, MINUTES))
    report = check_strategies(strategies, {"BTCUSDT": history}, MINUTES)
    assert (report.findings, report.failures) == ([], {})
    assert report.truncations == MINUTES
    assert report.signals > 0


def test_next_close_is_caught() -> None:
    """A comparison with the next candle's close is named with the first minute that it changes."""
    report = judge(planted(above(pl.col("close").shift(-1), "close")))
    [found] = report.findings
    history = walk(candles_needed([planted(())], MINUTES)).tail(MINUTES)
    close = history["close"].to_list()
    # A signal is lost where the candle that follows is cut off; the last candle has none in any case.
    rises = [place for place in range(MINUTES - 1) if close[place + 1] > close[place]]
    assert found.minute == history["open_time"][rises[0]]
    assert found.boundary == found.minute
    assert (found.check, found.whole, found.part) == ("look-ahead", "long", None)
    assert found.signals == len(rises)
    assert f"planted 1 on BTCUSDT at {found.minute:%Y-%m-%d %H:%M} UTC looks ahead" in found.text()


def test_distant_future_is_caught() -> None:
    """A strategy that reads beyond the judged candles is found where the history goes on after them."""
    strategy = planted(above(pl.col("close").shift(-300), "close"))
    history = {"BTCUSDT": walk(candles_needed([strategy], MINUTES, 400))}
    report = check_strategies([strategy], history, MINUTES, future=400)
    assert [found.check for found in report.findings] == ["look-ahead"]
    honest = planted(above("close", "open"))
    assert check_strategies([honest], history, MINUTES, future=400).findings == []


def test_scaling_by_whole_frame_is_caught() -> None:
    """A threshold that is an average over all candles changes with each new candle."""
    report = judge(planted(above("close", pl.col("close").mean())), 60)
    assert "look-ahead" in {found.check for found in report.findings}


class SinceTheFirst(Ema):
    """An indicator whose values depend on where the history begins, although its warm-up is short."""

    def history(self, candles: Candles) -> list[np.ndarray]:
        return [candles.close[0] + np.zeros(len(candles.close))]


def test_short_warm_up_is_caught() -> None:
    """Signals that change with a longer warm-up are named apart from look-ahead."""
    report = judge(planted(below(COLUMN, "close"), SinceTheFirst(3)))
    assert [found.check for found in report.findings] == ["warm-up"]
    assert "depends on its warm-up" in report.findings[0].text()


def test_failing_strategy_is_reported() -> None:
    """A strategy that raises does not keep the others from being judged."""
    wrong, ahead = planted(above("absent", 1)), planted(above(pl.col("close").shift(-1), "close"))
    history = {"BTCUSDT": walk(candles_needed([wrong], MINUTES))}
    report = check_strategies([wrong, ahead], history, MINUTES)
    assert list(report.failures) == ["planted 1 on BTCUSDT"]
    assert "ColumnNotFoundError" in report.failures["planted 1 on BTCUSDT"]
    assert len(report.findings) == 1


def test_gap_in_history_is_judged() -> None:
    """Candles after a gap follow those before it, in the whole history and in its parts."""
    strategy = planted(above("close", COLUMN))
    history = walk(candles_needed([strategy], MINUTES) + 10)
    held = history.filter(
        ~pl.col("open_time").is_between(*[FIRST + timedelta(minutes=m) for m in (20, 29)])
    )
    report = check_strategies([strategy], {"BTCUSDT": held}, MINUTES)
    assert report.findings == []
    assert report.signals > 0


def test_short_history_is_refused() -> None:
    """A symbol with too few candles is named, with the number that is needed."""
    strategy = planted(above("close", COLUMN))
    needed = candles_needed([strategy], MINUTES)
    with pytest.raises(
        ShortHistoryError, match=f"{needed} candles are needed.*BTCUSDT has {needed - 1}"
    ):
        check_strategies([strategy], {"BTCUSDT": walk(needed - 1)}, MINUTES)


def test_progress_reaches_total() -> None:
    """The last call of progress says that all comparisons are done."""
    seen: list[tuple[int, int]] = []
    strategy = planted(above("close", COLUMN))
    history = walk(candles_needed([strategy], MINUTES))
    both = {"BTCUSDT": history, "ETHUSDT": history}
    check_strategies([strategy], both, MINUTES, lambda done, total: seen.append((done, total)))
    assert seen == [(MINUTES, 2 * MINUTES), (2 * MINUTES, 2 * MINUTES)]
