"""CPU time and memory of training a model on a year of candidates of fifty symbols: candidates, labels,
folds and the card. Candles and features are made up, and the time to make these is not counted.

`python -m pipeline_assets_tests.benchmarks.bench_training [SYMBOLS [DAYS]]` takes fewer on a busy machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.market.trading_rules import TradingDocuments
from pipeline_assets.market.windows import Window
from pipeline_assets.research.examples import examples
from pipeline_assets.research.training import learn
from pipeline_assets.research.training_types import TrainingRequest, TrainingSources
from pipeline_assets.settings import StrategySettings
from pipeline_assets_tests.benchmarks.bench_backtest import FIRST, MadeUp, peak_memory
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.research.made_features import feature_frame

SYMBOLS, DAYS = 50, 365
RULES = {"stop": "0.004", "target": "0.006", "time_limit": 240, "opposite_signal": "ignore"}


class Timed:
    """Makes candles, rates and features, and counts the CPU time that this takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._candles = MadeUp()
        self.damaged: tuple[str, ...] = ()

    def candles(self, symbols: Any, window: Window, columns: Any) -> pl.DataFrame:
        began = time.process_time()
        found = self._candles.candles(symbols, window, columns)
        self.seconds += time.process_time() - began
        return found

    def listed(self) -> dict[str, Any]:
        return {}

    def rates(self, _: str, window: Window) -> list[FundingRate]:
        times = pl.datetime_range(window.start, window.end, "8h", eager=True, closed="left")
        return [FundingRate(each, Decimal("0.0001")) for each in times]

    def features(
        self, interval: Interval, symbols: Sequence[str], start: datetime, end: datetime
    ) -> pl.DataFrame:
        began = time.process_time()
        found = feature_frame(interval, symbols, start, end)
        self.seconds += time.process_time() - began
        return found


def measured(symbols: int, days: int) -> dict[str, float]:
    """Train once; seconds of CPU, of the clock, and peak memory in MB."""
    made = Timed()
    (strategy,) = configured_strategies([StrategySettings(name="macd_cross", rules=RULES)])
    request = TrainingRequest(
        strategy,
        [f"S{number:02}USDT" for number in range(symbols)],
        FIRST + timedelta(days=3),
        FIRST + timedelta(days=days),
    )
    sources = TrainingSources(made, made.rates, lambda _: TradingDocuments(), made.features)
    wall, cpu = time.perf_counter(), time.process_time()
    held = examples(request, sources)
    reading = time.process_time() - cpu - made.seconds
    result = learn(request, held)
    return {
        "cpu_s": time.process_time() - cpu - made.seconds,
        "examples_cpu_s": reading,
        "wall_s": time.perf_counter() - wall,
        "making_cpu_s": made.seconds,
        "peak_mb": peak_memory(),
        "candidates_found": held.found,
        "candidates_used": held.frame.height,
        "passes": float(result.passes),
    }


def main() -> int:
    if sys.argv[1:2] == ["once"]:
        print(json.dumps(measured(int(sys.argv[2]), int(sys.argv[3]))))
        return 0
    symbols, days = (*map(int, sys.argv[1:]), *(SYMBOLS, DAYS)[len(sys.argv) - 1 :])
    frugal = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-m", __spec__.name, "once", str(symbols), str(days)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=frugal).stdout
    found = json.loads(shown.decode().splitlines()[-1])
    name = f"a model trained on {days} days of candidates of {symbols} symbols"
    per_million = found["cpu_s"] / found["candidates_found"] * 1e6
    met = report(
        f"{name}, CPU time",
        found["cpu_s"],
        "s",
        300,
        ratio=per_million,
        against="a million candidates found (seconds)",
        **{key: value for key, value in found.items() if key not in ("cpu_s", "peak_mb")},
    )
    return (
        0
        if report(
            f"{name}, peak memory",
            found["peak_mb"],
            "MB",
            2000,
            ratio=found["peak_mb"] / 2000,
            against="the limit",
        )
        and met
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
