"""The candidate sensor's ticks over real servers: the published candidates follow from the exchange's
candles, whichever system fails in between."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, AssetMaterialization

from pipeline_assets.market.strategy import Condition, Declaration
from pipeline_assets.resources.candidate_objects import LATE, read_stored
from pipeline_assets.resources.evaluation_record import read_evaluation
from pipeline_assets.resources.kafka_clients import BrokerError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.settings import StrategySettings
from pipeline_assets.signals import evaluation
from pipeline_assets.signals.due_minutes import Cursor
from pipeline_assets.signals.tick import Services
from pipeline_assets_tests.fixtures.candidates import (
    MINUTE,
    STRATEGIES,
    CandidateSensor,
    topic_of_its_own,
)
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import Platform, platform_without_snowflake

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BTC = "BTCUSDT"


def assert_published(sensor: CandidateSensor, first: datetime, *, repeats: bool = False) -> None:
    """Exactly the candidates of the minutes from `first` to the newest closed one are in Kafka."""
    expected = sensor.expected(first, sensor.newest())
    ids = sensor.published_ids()
    assert (sorted(set(ids)) if repeats else ids) == sorted(expected["id"])
    assert expected.height > 3
    kept = pl.concat(
        pl.read_parquet(body) for body in sensor.platform.objects("candidates/").values()
    )
    assert set(kept["id"]) == set(ids)


def test_first_tick_starts_warm(candidate_sensor) -> None:
    """The first tick begins with the newest minute on warm indicators."""
    result = candidate_sensor.tick()
    newest = candidate_sensor.newest()
    assert "Evaluated 3 candles up to 2026-11-20 11:59" in result.skip_message
    assert candidate_sensor.published_ids() == sorted(
        candidate_sensor.expected(newest, newest)["id"]
    )
    assert "No new minute since 2026-11-20 11:59" in candidate_sensor.tick().skip_message


def test_live_candidates_match_exchanges_candles(
    candidate_sensor,
) -> None:
    """Minute by minute, the candidates are those of the exchange's candles.

    Dagster executes real ingest runs of 1m.
    """
    candidate_sensor.tick()
    for _ in range(6):
        candidate_sensor.minutes(1, slots=False)
        candidate_sensor.platform.ingest("1m")
        candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE)


def test_candidate_follows_the_exchange(candidate_sensor) -> None:
    """A candidate has the exchange's values.

    Its clock too: the machine's is elsewhere in this test.
    """
    candidate_sensor.minutes(4)
    candidate_sensor.tick()
    newest = candidate_sensor.newest()
    closes = {
        (row["symbol"], row["open_time"]): row["close"]
        for row in candidate_sensor.candles(newest, newest).to_dicts()
    }
    for each in candidate_sensor.published():
        assert each.price == closes[each.symbol, each.open_time]
        assert timedelta(0) <= each.created_at - candidate_sensor.platform.now() < MINUTE / 2


def test_tick_reports_and_launches_nothing(candidate_sensor) -> None:
    """A tick reports its findings on the asset and launches no run."""
    candidate_sensor.tick()
    candidate_sensor.minutes(4)
    result = candidate_sensor.tick()
    assert result.run_requests == []
    found = candidate_sensor.expected(NOON, candidate_sensor.newest())
    [event] = result.asset_events
    assert isinstance(event, AssetMaterialization)
    assert (event.asset_key, event.partition) == (AssetKey("candidates"), "2026-11-20")
    assert event.metadata["candidates"].value == found.height
    lag = event.metadata["lag from candle close (s)"].value
    assert 30 <= lag < 60  # the exchange's clock stands half a minute after the close
    rows = [record.data for record in event.metadata["newest candidates"].records]
    assert sorted((row["symbol"], row["strategy"], row["side"]) for row in rows) == sorted(
        found.select("symbol", "strategy", "side").rows()
    )
    counts = event.metadata["by strategy"].records
    assert sum(record.data["candidates"] for record in counts) == found.height
    assert candidate_sensor.tick().asset_events == []


def test_missed_minutes_are_evaluated_in_order(candidate_sensor) -> None:
    """Missed minutes are evaluated from slots and lake, in order."""
    candidate_sensor.tick()
    candidate_sensor.minutes(40, slots=False)
    candidate_sensor.minutes(1)
    result = candidate_sensor.tick()
    assert "Evaluated 123 candles up to 2026-11-20 12:40" in result.skip_message
    assert_published(candidate_sensor, NOON - MINUTE)
    published = candidate_sensor.published()
    by_symbol = [each.open_time for each in published if each.symbol == BTC]
    assert by_symbol == sorted(by_symbol)


def test_late_candidates_are_only_stored(candidate_sensor) -> None:
    """Late candidates are stored and not published."""
    candidate_sensor.tick()
    before = candidate_sensor.published_ids()
    late = candidate_sensor.with_settings(candidates={"publish_minutes": 15})
    late.minutes(40, slots=False)
    late.minutes(1)
    result = late.tick()
    newest = late.newest()
    first_published = newest - 14 * MINUTE
    found = late.expected(NOON, newest)
    in_time = late.expected(first_published, newest)
    assert 0 < in_time.height < found.height
    assert late.published_ids() == sorted([*before, *in_time["id"]])
    stored = read_stored(ObjectStore(late.settings.s3), NOON.date()).filter(
        pl.col("open_time") >= NOON
    )
    assert set(stored["id"]) == set(found["id"])
    assert set(stored.filter(LATE)["id"]) == set(found["id"]) - set(in_time["id"])
    [event] = result.asset_events
    assert event.metadata["candidates"].value == in_time.height
    assert event.metadata["evaluated late"].value == found.height - in_time.height
    assert f"{found.height - in_time.height} more are stored as evaluated late" in (
        result.skip_message
    )


def test_repeated_old_minute_publishes_once(candidate_sensor) -> None:
    """A minute repeated when it is too old is not published twice.

    The tick dies between Kafka's acknowledgement and the state, and is repeated hours later.
    """
    candidate_sensor.tick()
    prompt = candidate_sensor.with_settings(candidates={"publish_minutes": 15})
    prompt.minutes(5)
    states = prompt.resources["indicator_states"]
    with pytest.MonkeyPatch.context() as dying:

        def die(*_: object) -> None:
            raise ConnectionError

        dying.setattr(states, "write", die)
        with pytest.raises(ConnectionError):
            prompt.tick()
    published = prompt.published_ids()
    prompt.platform.exchange.advance(3600)
    prompt.tick()
    assert prompt.published_ids() == published
    stored = read_stored(ObjectStore(prompt.settings.s3), NOON.date())
    assert not stored.filter(pl.col("id").is_in(published))[LATE].any()


def test_too_old_minutes_are_skipped(candidate_sensor) -> None:
    """Minutes older than the limit are skipped and recorded."""
    candidate_sensor.tick()
    late = candidate_sensor.with_settings(candidates={"catch_up_minutes": 20})
    late.minutes(30, slots=False)
    late.minutes(1)
    result = late.tick()
    assert "3 symbols skipped, the first BTCUSDT: from 2026-11-20 12:00" in result.skip_message
    [reported] = [event for event in result.asset_events if "skipped" in event.metadata]
    first = reported.metadata["skipped"].records[0].data
    assert (first["from"], first["until"]) == ("2026-11-20 12:00:00 UTC", "2026-11-20 12:11:00 UTC")
    assert first["minutes"] == 11
    before = candidate_sensor.expected(NOON - MINUTE, NOON - MINUTE)
    after = late.expected(NOON + 11 * MINUTE, late.newest())
    assert late.published_ids() == sorted([*before["id"], *after["id"]])
    [skipped] = read_evaluation(ObjectStore(late.settings.s3)).skipped[BTC]
    assert (skipped.start, skipped.end) == (NOON, NOON + 11 * MINUTE)


def test_flushed_redis_loses_no_minute(candidate_sensor) -> None:
    """After a flush of Redis no minute is lost.

    Flushed while the sensor stands still: slots and states are gone, and six minutes pass.
    """
    candidate_sensor.tick()
    candidate_sensor.minutes(2)
    candidate_sensor.tick()
    client = candidate_sensor.redis_client()
    candidate_sensor.minutes(3)
    client.flushall()
    assert "no candles in the slots" in candidate_sensor.tick().skip_message
    candidate_sensor.minutes(3)
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE)


def test_clock_ahead_skips_no_minute(candidate_sensor) -> None:
    """After a clock ran ahead, the current minutes are evaluated.

    For a while the exchange's clock was two days ahead; slots, states and the cursor are so too.
    """
    candidate_sensor.tick()
    ahead = timedelta(days=2)
    newest = candidate_sensor.newest()
    times = pl.col("open_time", "close_time")
    future = candidate_sensor.candles(newest, newest).with_columns(times + ahead)
    candidate_sensor.slots.write(future)
    states = candidate_sensor.resources["indicator_states"]
    held, _ = states.read_due(future["symbol"].to_list())
    assert states.write(dict.fromkeys(held, (newest + ahead, b"of the future")), held) == {*held}
    candidate_sensor.cursor = replace(
        Cursor.from_text(candidate_sensor.cursor), evaluated=newest + ahead
    ).to_text()
    candidate_sensor.minutes(1)
    result = candidate_sensor.tick()
    assert "Evaluated 3 candles up to 2026-11-20 12:00" in result.skip_message
    candidate_sensor.minutes(2)
    result = candidate_sensor.tick()
    assert "up to 2026-11-20 12:02" in result.skip_message
    assert_published(candidate_sensor, NOON - MINUTE)


def test_changed_parameters_rebuild_the_state(candidate_sensor) -> None:
    """A state of other parameters is built again, and no candidate is lost.

    As after a new version of the code: the fingerprint is another one.
    """
    candidate_sensor.tick()
    candidate_sensor.minutes(3)
    other = StrategySettings.model_validate({"name": "rsi_reversal", "period": 4})
    again = candidate_sensor.with_settings(strategies=(*STRATEGIES[1:], other))
    again.tick()
    before = candidate_sensor.expected(NOON - MINUTE, NOON - MINUTE)
    after = again.expected(NOON, again.newest())
    assert again.published_ids() == sorted([*before["id"], *after["id"]])


def test_a_damaged_state_is_built_again(candidate_sensor) -> None:
    candidate_sensor.tick()
    candidate_sensor.minutes(3)
    client = candidate_sensor.redis_client()
    client.hset("indicators:1m:{BTCUSDT}", "state", b"damaged")
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE)


def test_exchange_fills_lake_holes(candidate_sensor) -> None:
    """Candles that are missing on the lake come from the exchange."""
    store = ObjectStore(candidate_sensor.settings.s3)
    lost = [each.key for each in store.objects("ohlcv/1m/BTCUSDT/")]
    store.delete(lost[3:9])
    candidate_sensor.tick()
    candidate_sensor.minutes(4)
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE)


def test_symbol_without_history_waits_alone(candidate_sensor) -> None:
    """A symbol without history from any source waits, and the others go on."""
    store = ObjectStore(candidate_sensor.settings.s3)
    store.delete([each.key for each in store.objects("ohlcv/1m/BTCUSDT/")])
    candidate_sensor.platform.exchange.faults(symbols={BTC: {"http_500": 1}})
    result = candidate_sensor.tick()
    assert "Evaluated 2 candles" in result.skip_message
    assert "1 symbols held up, the first BTCUSDT: " in result.skip_message
    candidate_sensor.platform.exchange.faults()
    candidate_sensor.minutes(4)
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE)


def outage(sensor: CandidateSensor, *minutes: int) -> None:
    """Make these minutes after noon the only ones that the exchange has no candle of BTCUSDT for."""
    moments = [NOON + minute * MINUTE for minute in minutes]
    sensor.platform.exchange.outages(
        *(f"{at.isoformat()}/{(at + MINUTE).isoformat()}/{BTC}" for at in moments)
    )


def test_symbol_with_gap_waits_then_continues(candidate_sensor) -> None:
    """A symbol with a gap waits for the candle, and then continues without it."""
    candidate_sensor.tick()
    outage(candidate_sensor, 1, 2)
    candidate_sensor.minutes(4)
    result = candidate_sensor.tick()
    assert "1 symbols waiting, the first BTCUSDT: waits for 2026-11-20 12:01" in result.skip_message
    candidate_sensor.minutes(1)
    result = candidate_sensor.tick()
    assert "waiting" not in result.skip_message
    assert_published(candidate_sensor, NOON - MINUTE)


def test_late_candle_is_evaluated(candidate_sensor) -> None:
    """A candle that comes late is evaluated with all after it.

    The exchange had no candle when it was asked, so the minute was passed over; then it had.
    """
    candidate_sensor.tick()
    outage(candidate_sensor, 1, 2)
    candidate_sensor.minutes(6)
    candidate_sensor.tick()
    outage(candidate_sensor)
    candidate_sensor.minutes(1)
    candidate_sensor.tick()
    found = candidate_sensor.published_ids()
    expected = candidate_sensor.expected(NOON - MINUTE, candidate_sensor.newest())
    assert set(expected["id"]) <= set(found)
    late = expected.filter(
        pl.col("symbol") == BTC, pl.col("open_time").is_in([NOON + MINUTE, NOON + 2 * MINUTE])
    )
    assert late.height


def test_corrected_candle_rebuilds_the_state(candidate_sensor) -> None:
    """A corrected candle builds the state again.

    Candidates published on the old value stay; later ones follow from the corrected value alone.
    """
    candidate_sensor.tick()
    candidate_sensor.minutes(3)
    newest = candidate_sensor.newest()
    true = candidate_sensor.candles(newest, newest)
    wrong = true.with_columns(pl.col("close", "high") * 1.05)
    candidate_sensor.slots.write(wrong)
    candidate_sensor.tick()
    on_wrong = set(candidate_sensor.published_ids())
    candidate_sensor.minutes(1)  # the tick brings the true candle back
    for _ in range(5):
        candidate_sensor.tick()
        candidate_sensor.minutes(1)
    candidate_sensor.tick()
    expected = set(candidate_sensor.expected(NOON - MINUTE, candidate_sensor.newest())["id"])
    found = set(candidate_sensor.published_ids())
    assert expected <= found
    assert found - expected <= on_wrong
    assert on_wrong - expected


def test_raising_strategy_stops_no_other(candidate_sensor, monkeypatch) -> None:
    """A strategy that raises stops no other and is reported once."""
    strategies, indicators = evaluation._strategies(candidate_sensor.settings.strategies)
    broken = replace(
        strategies[0],
        name="broken",
        declaration=Declaration((), long=(Condition("no_such_column", 1.0),)),
    )
    monkeypatch.setattr(evaluation, "_strategies", lambda _: ((broken, *strategies), indicators))
    first = candidate_sensor.tick()
    assert "1 strategies failed, the first broken" in first.skip_message
    assert "no_such_column" in first.skip_message
    [reported] = [event for event in first.asset_events if "no candidates" in event.metadata]
    assert "broken" in reported.metadata["no candidates"].records[0].data["what"]
    candidate_sensor.minutes(4)
    second = candidate_sensor.tick()
    assert "failed" in second.skip_message
    assert not [event for event in second.asset_events if "no candidates" in event.metadata]
    assert_published(candidate_sensor, NOON - MINUTE)


def test_down_kafka_delays_everything(candidate_sensor, kafka_server) -> None:
    """While Kafka is down no minute counts as done.

    Ten minutes long by the exchange's clock; then all of them are published, in order.
    """
    candidate_sensor.tick()
    quick = candidate_sensor.with_settings(kafka={"delivery_timeout_ms": 1000})
    kafka_server.pause()
    try:
        for _ in range(2):
            quick.minutes(5)
            with pytest.raises(BrokerError, match="candidates were acknowledged within 1 s"):
                quick.tick()
    finally:
        kafka_server.resume()
    quick.minutes(1)
    assert "Evaluated 33 candles" in quick.tick().skip_message
    assert_published(quick, NOON - MINUTE, repeats=True)


def test_refused_copy_delays_everything(candidate_sensor) -> None:
    """While the lake refuses the copy no minute counts as done.

    Kafka has acknowledged and S3 fails. The next tick publishes again, under the same ids.
    """
    candidate_sensor.tick()
    candidate_sensor.minutes(5)
    works = candidate_sensor.resources["store"]
    elsewhere = candidate_sensor.settings.s3.model_copy(update={"bucket": "not-there"})
    candidate_sensor.resources["store"] = _ReadsOnly(works, ObjectStore(elsewhere))
    with pytest.raises(ObjectStoreError, match="not-there"):
        candidate_sensor.tick()
    candidate_sensor.resources["store"] = works
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE, repeats=True)


class _ReadsOnly:
    """A store that reads from one bucket and writes into another."""

    def __init__(self, reads: ObjectStore, writes: ObjectStore) -> None:
        self._reads, self._writes = reads, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writes if name.startswith("put") else self._reads, name)


def test_two_sensors_lose_nothing(candidate_sensor) -> None:
    """Two sensors at once lose and invent nothing.

    The other one does the same minutes between this one's reading and its publication.
    """
    candidate_sensor.tick()
    candidate_sensor.minutes(5)
    other = CandidateSensor(candidate_sensor.platform)
    topic = candidate_sensor.resources["candidate_topic"]

    class Interrupted:
        def publish(self, candidates: Any) -> Any:
            other.tick()
            return topic.publish(candidates)

    candidate_sensor.resources["candidate_topic"] = Interrupted()
    candidate_sensor.tick()
    candidate_sensor.resources["candidate_topic"] = topic
    candidate_sensor.minutes(1)
    candidate_sensor.tick()
    assert_published(candidate_sensor, NOON - MINUTE, repeats=True)


def test_new_symbol_warms_up(tmp_path, s3_bucket, redis_server, redis_url, kafka_server) -> None:
    """A new symbol warms up, and is reported once."""
    listed = NOON - timedelta(minutes=180)
    with (
        start_exchange(
            clock="stepped:2026-11-20T12:00:30Z",
            symbols="BTCUSDT,ETHUSDT",
            listed=f"ETHUSDT={listed:%Y-%m-%dT%H:%M:%SZ}",
        ) as exchange,
        platform_without_snowflake(
            tmp_path,
            exchange,
            s3_bucket,
            redis_url,
            symbols="BTCUSDT,ETHUSDT",
            strategies=STRATEGIES,
            kafka=topic_of_its_own(kafka_server),
        ) as platform,
    ):
        platform.ingest("1m")
        sensor = CandidateSensor(platform)
        first = sensor.tick()
        assert "1 symbols warming up, the first ETHUSDT: 180 of 186 candles" in first.skip_message
        [reported] = [event for event in first.asset_events if "no candidates" in event.metadata]
        assert reported.metadata["no candidates"].records[0].data["what"] == "symbol ETHUSDT"
        for _ in range(12):
            sensor.minutes(1)
            result = sensor.tick()
            assert not [event for event in result.asset_events if "no candidates" in event.metadata]
        assert "warming" not in result.skip_message
        assert_published(sensor, NOON - MINUTE)
        [of_new] = {each.symbol for each in sensor.published()} - {BTC}
        assert of_new == "ETHUSDT"


def test_empty_platform_is_reported(minutes: Platform) -> None:
    """Before anything is collected, the tick says so."""
    sensor = CandidateSensor(minutes.with_settings(strategies=STRATEGIES))
    assert "No symbol is collected yet" in sensor.tick().skip_message


def test_tick_time_is_limited(candidate_sensor) -> None:
    """The time of a tick is limited.

    The time is over after the first step, and the next tick does the rest.
    """
    services = Services(
        *(
            candidate_sensor.resources[name]
            for name in ("settings", "exchange", "store", "indicator_states", "candidate_topic")
        )
    )
    clock = iter(range(0, 10_000, 20))
    first = evaluation.run_tick(services, evaluation.Cursor(), 30.0, lambda: next(clock))
    assert first.candles == 0
    again = evaluation.run_tick(services, first.cursor)
    assert again.candles == 3
