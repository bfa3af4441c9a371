"""The cost of a full hour's turn: 900 symbols, all three intervals due at once, the exchange's weight
limit in force.

`python -m pipeline_assets_tests.benchmarks.bench_full_hour`. The three ingest runs are launched over
GraphQL when the exchange's clock turns to a full hour; seconds are counted from then. All requests together
cost 2,700 weight, so the 15m and 1h runs wait for the next minute. The embedded warehouse opens files one
by one: its time is shown apart.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.ingest_state import read_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets_tests.benchmarks.harness import ImportCost, import_dagster, report
from pipeline_assets_tests.benchmarks.product import Product, running_product

SYMBOLS = 900
MINUTE = timedelta(minutes=1)
INGEST_RUNS = {interval: f"tick_{interval}" for interval in Interval}


def warm_up(product: Product, hour: datetime) -> None:
    """Execute an ingest run of each interval before the hour, each in its own minute of weight.

    1m comes last: other work leaves room for it only within three minutes after its announcement.
    """
    for number, job in enumerate(reversed(INGEST_RUNS.values())):
        now = hour - (8 - 3 * number) * MINUTE
        product.set_clock(now)
        product.measured_run(job, now.date())


def wait_for(product: Product, hour: datetime) -> None:
    """Return when the exchange's clock turns to the hour."""
    product.set_clock(hour - timedelta(seconds=5))
    time.sleep(5)


def refuse_wrong_results(product: Product, hour: datetime) -> None:
    """Check that the newest closed candle of every symbol is in its slot and on the lake."""
    store, symbols = ObjectStore(product.settings.s3), product.stored_symbols()
    held = CandleSlots(product.settings.redis).summary(symbols)
    if held.filter(held["newest_open_time"] < hour - MINUTE).height:
        raise RuntimeError(f"The minute before {hour} is missing from slots: {held}")
    for interval in Interval:
        newest = read_ingest_state(store, interval, (), hour + timedelta(hours=1)).newest
        late = [symbol for symbol in symbols if newest[symbol] < hour - interval.span]
        if late:
            raise RuntimeError(
                f"The {interval} candle before {hour} is missing for {len(late)} symbols"
            )


def refused(product: Product) -> int:
    """Return how many requests the exchange refused for their weight since it started."""
    replies = product.exchange_state()["requests"].values()
    return sum(by_status.get(status, 0) for by_status in replies for status in ("429", "418"))


def main() -> int:
    bare = import_dagster()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = today + timedelta(hours=2)
    with running_product(SYMBOLS, hour - 10 * MINUTE) as product:
        warm_up(product, hour)
        wait_for(product, hour)
        turned = time.time()
        with ThreadPoolExecutor(len(INGEST_RUNS)) as pool:
            runs = list(
                pool.map(lambda job: product.launch(job, hour.date()), INGEST_RUNS.values())
            )
            timings = list(pool.map(product.wait, runs))
        refuse_wrong_results(product, hour)
        too_much = refused(product)
    offsets = [run.at - turned for run in runs]
    by_interval = dict(zip(Interval, zip(offsets, timings, strict=True), strict=True))

    def end_of(step: str, interval: Interval) -> float:
        offset, run = by_interval[interval]
        return offset + run.steps[f"{step}_{interval}"][1]

    def start_of(interval: Interval) -> float:
        offset, run = by_interval[interval]
        return round(offset + run.first_step, 2)

    minutes = by_interval[Interval.ONE_MINUTE][1]
    stored = {interval: end_of("candle_objects", interval) for interval in Interval}
    slots = end_of("candle_slots", Interval.ONE_MINUTE)
    tables = {}
    for interval in (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR):
        began, ended = by_interval[interval][1].steps[f"candle_table_{interval}"]
        tables[interval.value] = round(ended - began, 2)
    met = [
        report(
            "full_hour_refused",
            too_much,
            "replies with 429 or 418",
            0,
            ratio=too_much / (3 * SYMBOLS),
            against=f"{3 * SYMBOLS} requests, one a symbol and interval",
        ),
        report(
            "full_hour_slots_written",
            slots,
            f"s after the turn, {SYMBOLS} symbols",
            8,
            ratio=slots / bare.wall,
            against=ImportCost.NAME,
            first_step={each.value: start_of(each) for each in Interval},
            steps_of_1m={name: round(to - since, 2) for name, (since, to) in minutes.steps.items()},
        ),
        report(
            "full_hour_objects_stored",
            max(stored.values()),
            f"s after the turn, {SYMBOLS} symbols, three intervals",
            60,
            ratio=max(stored.values()) / bare.wall,
            against=ImportCost.NAME,
            by_interval={interval.value: round(at, 2) for interval, at in stored.items()},
            embedded_warehouse_load_seconds=tables,
        ),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
