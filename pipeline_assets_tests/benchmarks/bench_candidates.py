"""The time that the candidate sensor needs for a minute of 500 symbols: for updating the states in Redis,
and for a whole tick until Kafka has acknowledged. Real Redis, S3, Kafka and exchange; the default strategies.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline_assets_tests.benchmarks.harness import report

SYMBOLS, REPEATS = 500, 15
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def candles(minutes: int) -> Any:
    """Random walks of every symbol; the last minute of the frame is that of NOON."""
    import numpy as np
    import polars as pl

    from pipeline_assets.market.candles import candle_schema

    chance = np.random.default_rng(4)
    rows = SYMBOLS * minutes
    moves = chance.normal(0, 0.0007, (SYMBOLS, minutes))
    close = (chance.uniform(0.1, 50_000, SYMBOLS)[:, None] * np.exp(moves.cumsum(axis=1))).ravel()
    spread = 1 + np.abs(chance.normal(0, 0.0005, rows))
    volume = chance.lognormal(5, 1, rows)
    opens = [NOON + (minute - minutes + 1) * MINUTE for minute in range(minutes)]
    numbers = {"open": close, "high": close * spread, "low": close / spread, "close": close}
    numbers |= {name: volume for name in candle_schema() if "volume" in name}
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03}USDT" for number in range(SYMBOLS)], minutes),
            "open_time": opens * SYMBOLS,
            "close_time": [opened + MINUTE for opened in opens] * SYMBOLS,
            "trades": np.full(rows, 100),
            **numbers,
        }
    ).select(pl.col(name).cast(kind) for name, kind in candle_schema().items())


def median_ms(prepare: Callable[[], object], run: Callable[[], float | None]) -> list[float]:
    """Milliseconds of each repeat, after an untimed `prepare`; `run` may say what it took itself."""
    taken = []
    for _ in range(REPEATS):
        prepare()
        began = time.perf_counter()
        own = run()
        taken.append(1000 * (time.perf_counter() - began if own is None else own))
    return taken


class Minutes:
    """The minutes after the history, one after the other, into the slots."""

    def __init__(self, frame: Any, slots: Any, exchange: Any) -> None:
        self._parts = frame.partition_by("open_time", maintain_order=True)
        self._slots, self._exchange, self._next = slots, exchange, 0

    def pass_one(self) -> None:
        part = self._parts[self._next]
        self._next += 1
        self._exchange.set_clock(part["open_time"][0] + timedelta(seconds=65))
        self._slots.write(part)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        return measure(Path(directory), servers)


def measure(directory: Path, servers: ExitStack) -> int:
    import polars as pl

    from pipeline_assets.market.candidates import Candidate
    from pipeline_assets.market.indicators import IndicatorStates
    from pipeline_assets.market.intervals import to_milliseconds
    from pipeline_assets.market.strategies import configured_strategies, indicators_of
    from pipeline_assets.resources.broker import CandidateTopic
    from pipeline_assets.resources.listing_history import write_universe
    from pipeline_assets.resources.slots import CandleSlots
    from pipeline_assets.settings import Settings
    from pipeline_assets.signals.due_minutes import Cursor, due_minutes
    from pipeline_assets.signals.evaluation import run_tick
    from pipeline_assets.signals.tick import Services
    from pipeline_assets_tests.fixtures.candidates import sensor_resources
    from pipeline_assets_tests.fixtures.exchange import start_exchange
    from pipeline_assets_tests.fixtures.kafka import KafkaServer
    from pipeline_assets_tests.fixtures.redis import RedisServer
    from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket

    exchange = servers.enter_context(start_exchange(clock=f"stepped:{NOON:%Y-%m-%dT%H:%M:%SZ}"))
    redis_server = servers.enter_context(RedisServer(directory / "redis"))
    s3 = servers.enter_context(S3Server(directory / "s3"))
    bucket = make_bucket(s3)
    broker = servers.enter_context(KafkaServer(make_bucket(s3)))
    settings = Settings(
        _env_file=None,
        symbols="all",
        data_dir=directory,
        binance={"rest_url": exchange.url.removesuffix("/fapi")},
        s3=bucket.settings().model_dump(),
        redis={"url": redis_server.url},
        kafka=broker.settings().model_dump(),
    )
    resources = sensor_resources(settings)
    store, states = resources["store"], resources["indicator_states"]
    indicators = indicators_of(configured_strategies(settings.strategies))
    live = 3 * REPEATS + 15
    every = candles(indicators.candles_needed + live)
    since = NOON - live * MINUTE
    history = every.filter(pl.col("open_time") <= since)
    names = history["symbol"].unique(maintain_order=True).to_list()
    listed = [to_milliseconds(NOON - timedelta(days=30)), None, "TRADING", True]
    universe = {"seen_ms": to_milliseconds(NOON), "symbols": dict.fromkeys(names, listed)}
    write_universe(store, universe)
    slots = CandleSlots(settings.redis)
    minutes = Minutes(every.filter(pl.col("open_time") > since), slots, exchange)
    encoded = IndicatorStates.from_history(indicators, history).encode()
    held, _ = states.read_due(names)
    states.write({name: (since, encoded[name]) for name in names}, held)
    slots.write(history)

    def fold() -> None:
        held, newer = states.read_due(names)
        found, useless = IndicatorStates.decode(
            indicators, {name: each.state for name, each in held.items() if each.state}
        )
        assert not useless
        due = due_minutes(newer, found.open_times, {})
        moved, _ = found.advance(due.candles)
        opened, values = moved.open_times, moved.encode()
        written = states.write({name: (opened[name], values[name]) for name in names}, held)
        assert len(written) == SYMBOLS

    client = redis_server.client()

    def plain() -> None:
        reading = client.pipeline(transaction=False)
        for name in names:
            reading.hmget(f"plain:{name}", "state", "open_time")
            reading.hvals(f"ohlcv:1m:{{{name}}}")
        reading.execute()
        writing = client.pipeline(transaction=False)
        for name in names:
            writing.hset(f"plain:{name}", mapping={"state": encoded[name].hex(), "open_time": 1})
        writing.execute()

    published: list[tuple[float, list[Candidate]]] = []

    class Timed(CandidateTopic):
        def publish(self, candidates: Any) -> Any:
            answer = super().publish(candidates)
            published.append((time.perf_counter(), list(candidates)))
            return answer

    topic = Timed(settings.kafka)
    services = Services(settings, resources["exchange"], store, states, topic)
    cursor = Cursor(since)

    def tick() -> float:
        nonlocal cursor
        began, before = time.perf_counter(), len(published)
        reported = run_tick(services, cursor)
        cursor = reported.cursor
        assert reported.candles == SYMBOLS
        # A minute without a candidate ends when its states are written.
        return (published[-1][0] if len(published) > before else time.perf_counter()) - began

    for _ in range(3):
        minutes.pass_one()
        tick()
    folding = median_ms(minutes.pass_one, fold)
    ticks = median_ms(minutes.pass_one, tick)
    idle = median_ms(lambda: None, lambda: run_tick(services, cursor) and None)
    again = published[-1][1]
    reference = statistics.median(median_ms(lambda: None, plain))
    kafka = statistics.median(median_ms(lambda: None, lambda: topic.publish(again) and None))
    figures = [
        (
            *("500 symbols: slots read, states moved on and written", folding, 100, reference),
            "the same bytes read and written by plain pipelined commands",
        ),
        (
            *("500 symbols: sensor tick to Kafka acknowledgement", ticks, 500, kafka),
            f"publishing its {len(again)} candidates alone",
        ),
        (
            *("500 symbols: sensor tick without a new minute", idle, 100, reference),
            "the same bytes read and written by plain pipelined commands",
        ),
    ]
    met = [
        report(
            name,
            statistics.median(taken),
            "ms",
            target,
            ratio=statistics.median(taken) / compared,
            against=against,
            worst=max(taken),
        )
        for name, taken, target, compared, against in figures
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
