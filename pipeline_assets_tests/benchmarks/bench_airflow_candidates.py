"""Thirty real minutes under Airflow with 500 symbols: how soon after a candle's close its candidates are
in Kafka, seen by a consumer outside the sensor's process. bench_tick measures a single ingest run.

Run `python -m pipeline_assets_tests.benchmarks.bench_airflow_candidates` alone. A minute counts only after
the sensor has built the indicator states of all symbols.
"""

import sys
import threading
import time
from datetime import UTC, datetime, timedelta

from pipeline_assets.resources.broker import CandidateTopic
from pipeline_assets.resources.indicator_state import IndicatorStateStore
from pipeline_assets_tests.benchmarks.bench_airflow import MINUTE, cpu_seconds, sleep_until
from pipeline_assets_tests.benchmarks.harness import import_dagster, median, report
from pipeline_assets_tests.benchmarks.product import Product, running_product

SYMBOLS = 500
MINUTES = 30
LIMIT = timedelta(minutes=25)


class Arrivals:
    """The candidates of each minute and when the last of them arrived, read from Kafka as they come."""

    def __init__(self, product: Product) -> None:
        self.last: dict[datetime, datetime] = {}
        self.counts: dict[datetime, int] = {}
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._topic = CandidateTopic(product.settings.kafka)
        self._thread = threading.Thread(target=self._read, name="consumer")

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        for candidate in self._topic.read(stop=self._stop):
            if candidate.id not in self._seen:
                self._seen.add(candidate.id)
                self.last[candidate.open_time] = datetime.now(UTC)
                self.counts[candidate.open_time] = self.counts.get(candidate.open_time, 0) + 1


def wait_for_states(product: Product) -> None:
    """Wait until every symbol's state stands at one of the last minutes."""
    states, deadline = (
        IndicatorStateStore(product.settings.redis),
        time.monotonic() + LIMIT.total_seconds(),
    )
    while time.monotonic() < deadline:
        now = datetime.now(UTC)
        sleep_until(now.replace(second=50, microsecond=0))
        held, _ = states.read_due(product.stored_symbols_so_far())
        fresh = [
            each for each in held.values() if each.open_time and now - each.open_time < 3 * MINUTE
        ]
        print(f"{len(fresh)} of {SYMBOLS} states stand at a fresh minute", file=sys.stderr)
        if len(fresh) == SYMBOLS:
            return
        sleep_until(now.replace(second=0, microsecond=0) + MINUTE)
    raise RuntimeError(f"The sensor did not build the states of {SYMBOLS} symbols within {LIMIT}")


def measure(product: Product) -> bool:
    """Watch the minutes go by, then look at when each one's candidates came."""
    wait_for_states(product)
    with Arrivals(product) as arrivals:
        first = datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE
        sleep_until(first)
        before, began = cpu_seconds(product), time.monotonic()
        for minute in range(1, MINUTES + 1):
            sleep_until(first + minute * MINUTE)
            counted = arrivals.counts.get(first + (minute - 2) * MINUTE, 0)
            print(f"minute {minute} of {MINUTES}: {counted} candidates", file=sys.stderr)
        cpu = sum(cpu_seconds(product).values()) - sum(before.values())
        minutes = (time.monotonic() - began) / 60
        sleep_until(first + MINUTES * MINUTE + timedelta(seconds=50))
    opened = [first + (n - 1) * MINUTE for n in range(MINUTES)]
    return reported(arrivals, opened, cpu / minutes)


def reported(arrivals: Arrivals, opened: list[datetime], cpu: float) -> bool:
    """Report the figures; a minute without any candidate has none to be late."""
    bare = import_dagster()
    lags = {
        each: (arrivals.last[each] - each - MINUTE).total_seconds()
        for each in opened
        if each in arrivals.last
    }
    if not lags:
        raise RuntimeError("No candidate arrived: look at the sensor's ticks")
    seconds = list(lags.values())
    worst = max(lags, key=lambda each: lags[each])
    return all(
        [
            report(
                f"candidates_{SYMBOLS}_median_lag",
                median(seconds),
                "s from a candle's close to its last candidate in Kafka",
                15,
                ratio=median(seconds) / bare.wall,
                against=bare.NAME,
                minutes=len(seconds),
                candidates=sum(arrivals.counts.get(each, 0) for each in opened),
                runs=seconds,
                cpu_a_minute=cpu,
            ),
            report(
                f"candidates_{SYMBOLS}_worst_lag",
                lags[worst],
                "s from a candle's close to its last candidate in Kafka",
                25,
                ratio=lags[worst] / median(seconds),
                against="the median",
                at=f"{worst:%H:%M}",
            ),
        ]
    )


def main() -> int:
    with running_product(SYMBOLS, None, airflow=True) as product:
        return 0 if measure(product) else 1


if __name__ == "__main__":
    sys.exit(main())
