"""Preparing an account of the replay exchange, starting a venue with it, and what errors say."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY
from pipeline_assets.resources.binance_account import UnansweredError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.gateway.preparation import prepare_symbols
from pipeline_assets.trading.binance_checks import AccountUnfitError, AccountUnreadableError
from pipeline_assets.trading.binance_setup import SetupRefusedError
from pipeline_assets.trading.day_reconciliation import reconcile_day
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.trading.binance_bench import VenueBench, prepared, settings_at


def test_replay_exchange_takes_live_venue(running, redis_url):
    """Its account passes the check of live, which leaves no question open, until fees are paid in BNB."""

    async def scene() -> None:
        settings = settings_at(running, redis_url)
        await prepared(settings)
        live = settings.trading.model_copy(update={"venue": "live"})
        settings = settings.model_copy(update={"trading": live})
        bench = VenueBench(settings)
        await bench.venue.start(bench.hear)
        await bench.venue.stop()
        running.trading("account", fee_burn=True)
        bench = VenueBench(settings)
        with pytest.raises(AccountUnfitError, match="fees are paid in BNB"):
            await bench.venue.start(bench.hear)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "wrong",
    [{"api_secret": SecretStr("another")}, {"api_key": SecretStr("a" * len(DEFAULT_KEY))}],
    ids=["secret", "key"],
)
def test_wrong_key_names_its_settings(running, redis_url, wrong: dict[str, Any]):
    """The exchange says "signature" or "Invalid API-key"; a person looks for the setting."""

    async def start() -> None:
        bench = VenueBench(settings)
        await bench.venue.start(bench.hear)

    settings = settings_at(running, redis_url, **wrong)
    named = r"PIPELINE_TRADING__API_KEY, PIPELINE_TRADING__API_SECRET.*PIPELINE_TRADING__REST_URL"
    with sessions_are_closed():
        with pytest.raises(SetupRefusedError, match=named):
            prepare_symbols(settings, None)
        with pytest.raises(AccountUnreadableError, match=named):
            asyncio.run(start())


@pytest.mark.parametrize(
    ("fault", "share"), [("http_503", 0.25), ("cut_json", 0.25), ("reset", 0.5)]
)
def test_lost_answers_do_not_end_start(running, redis_url, fault: str, share: float):
    """A start repeats each question. The client repeats those of cut connections once itself."""

    async def at_once(seconds: float) -> None:
        waits.append(seconds)

    async def scene() -> None:
        settings = settings_at(running, redis_url)
        await prepared(settings)
        bench = VenueBench(settings, sleep=at_once)
        running.faults(seed=4, **{fault: share})
        await bench.venue.start(bench.hear)
        await bench.venue.stop()

    waits: list[float] = []
    asyncio.run(scene())
    assert waits
    assert set(waits) <= {0.25, 0.5, 1.0, 2.0}


def test_silent_address_names_its_setting(running, redis_url, s3_bucket):
    """A command and a day's comparison say so, and leave no session open."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    settings = settings_at(running, redis_url, rest_url=nowhere)
    named = r"check the network and PIPELINE_TRADING__REST_URL"
    now = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)
    with sessions_are_closed():
        with pytest.raises(UnansweredError, match=named):
            prepare_symbols(settings, None)
        with pytest.raises(UnansweredError, match=named):
            reconcile_day(settings, ObjectStore(s3_bucket.settings()), date(2026, 11, 20), now)


@pytest.mark.parametrize(
    ("path", "fault"), [("/nowhere", {}), ("", {"cut_json": 1})], ids=["404", "cut"]
)
def test_another_server_names_its_setting(running, redis_url, path: str, fault: dict[str, float]):
    """A server that does not speak for Binance, such as a proxy: the error names the setting to check."""
    settings = settings_at(running, redis_url)
    trading = settings.trading.model_copy(update={"rest_url": f"{settings.trading.rest_url}{path}"})
    settings = settings.model_copy(update={"trading": trading})
    running.faults(**fault)
    try:
        with pytest.raises(UnansweredError, match=r"GET time of .*PIPELINE_TRADING__REST_URL"):
            prepare_symbols(settings, None)
    finally:
        running.faults()


@contextmanager
def sessions_are_closed() -> Iterator[None]:
    """Fail if aiohttp warns that a session of the block was never closed."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert not [each for each in found if "client session" in str(each.message)]


def test_unlisted_symbol_is_named(running, redis_url):
    """The symbols of the venue are set up, and the other one is named each time."""
    settings = settings_at(running, redis_url).model_copy(
        update={"symbols": ("BTCUSDT", "NONEUSDT")}
    )
    first, second = prepare_symbols(settings, None), prepare_symbols(settings, None)
    assert "BTCUSDT: leverage 20 → 1" in first
    assert first[-1:] == second == ["NONEUSDT: not at the venue. Leave it out of PIPELINE_SYMBOLS"]
