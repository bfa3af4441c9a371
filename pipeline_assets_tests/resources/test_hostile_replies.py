"""Exchange, archive and webhook that send too much, too slowly, or from elsewhere.

Nothing here measures time: a client without a deadline would hang until pytest's own time-out.
"""

import asyncio
import json
import tracemalloc
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr

from pipeline_assets.market.archive import ArchiveFile
from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.alerts import AlertError, Alerts
from pipeline_assets.resources.archive import downloads
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_errors import (
    ExchangeBannedError,
    ExchangeError,
    ExchangeUnreachableError,
)
from pipeline_assets.resources.weight_budget import Priority, WeightBudget
from pipeline_assets.settings import AlertsSettings, BinanceSettings
from pipeline_assets_tests.fixtures.hostile import (
    BOMB_BYTES,
    dripping_body,
    dripping_headers,
    endless,
    gzip_bomb,
    hostile_server,
    huge,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = Window(NOON - timedelta(hours=1), NOON)
DAY = ArchiveFile("BTCUSDT", Interval.ONE_HOUR, date(2026, 11, 19))
CONTROLS = "\x1b[2J\x1b]0;owned\x07\r\nERROR: forged"


def reported_time(handler, **headers):
    body = json.dumps({"serverTime": to_milliseconds(NOON)}).encode()
    handler.whole(body, **headers)


def klines_as(answer):
    """An exchange whose time is right, and whose candles come as `answer` sends them."""

    def either(handler):
        if handler.path.startswith("/fapi/v1/time"):
            reported_time(handler)
        else:
            answer(handler)

    return either


class Waits:
    """Waiting that takes no time and is written down; it is the client's clock, too."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await asyncio.sleep(0)

    def monotonic(self):
        return 1000 + sum(self.seconds)


@pytest.fixture
def budget(redis_server, redis_url):
    return WeightBudget(redis_server.settings(), "test", limit=2400, margin=60)


def client_of(server, budget, waits, **changes):
    settings = {"rest_url": server.url, "retries": 1, "timeout_seconds": 30} | changes
    return ExchangeClient(
        BinanceSettings.model_validate(settings),
        budget,
        Priority.INGEST_1M,
        sleep=waits,
        monotonic=waits.monotonic,
    )


def klines_error(server, budget, **changes):
    with client_of(server, budget, Waits(), **changes) as client:
        [fetched] = client.klines(Interval.ONE_MINUTE, {"BTCUSDT": HOUR})
    assert isinstance(fetched.error, ExchangeError)
    return str(fetched.error)


# Size


@pytest.mark.parametrize("answer", [huge, endless, gzip_bomb])
def test_candles_beyond_the_limit_are_refused(budget, answer):
    with hostile_server(klines_as(answer)) as server:
        reported = klines_error(server, budget)
    assert f"{server.url}/fapi/v1/klines sends more than the 2000000 bytes" in reported


def test_a_gzip_bomb_is_not_unpacked(budget):
    """The limit holds while the body is decoded: memory stays far below what it unpacks to."""
    with hostile_server(klines_as(gzip_bomb)) as server:
        tracemalloc.start()
        klines_error(server, budget, retries=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < BOMB_BYTES / 6


@pytest.mark.parametrize("answer", [huge, endless, gzip_bomb])
def test_oversized_archive_file_comes_from_exchange(answer):
    """Instead of an archive file beyond the limit, the exchange's candles are fetched."""
    with hostile_server(answer) as server:
        [found] = downloads(BinanceSettings(archive_url=server.url), [DAY], Waits())
    assert found.rows is None
    assert f"{server.url}/{DAY.path} sends more than the {DAY.largest_zip} bytes" in found.problem
    assert len(server.paths) == 1


def test_oversized_checksum_means_the_exchange():
    """If a checksum file is beyond the limit, the exchange's candles are fetched."""

    def answer(handler):
        if handler.path.endswith(".CHECKSUM"):
            endless(handler)
        else:
            handler.whole(b"PK")

    with hostile_server(answer) as server:
        [found] = downloads(BinanceSettings(archive_url=server.url), [DAY], Waits())
    assert "more than the 65536 bytes" in found.problem


# Time


@pytest.mark.parametrize("answer", [dripping_body, dripping_headers])
def test_dripping_candles_are_given_up(budget, answer):
    """A reply of candles that arrives byte by byte is given up."""
    with hostile_server(klines_as(answer)) as server:
        reported = klines_error(server, budget, timeout_seconds=0.3)
    assert "no usable answer in 2 attempts" in reported


@pytest.mark.parametrize("answer", [dripping_body, dripping_headers])
def test_dripping_archive_file_comes_from_exchange(answer):
    """If an archive file arrives byte by byte, the exchange's candles are fetched."""
    with hostile_server(answer) as server:
        settings = BinanceSettings(archive_url=server.url, timeout_seconds=0.2)
        [found] = downloads(settings, [DAY], Waits())
    assert found.rows is None
    assert found.problem.startswith(f"{DAY.name}.zip could not be had: ")


# Redirects


def redirect_to(server):
    def answer(handler):
        target = f"http://localhost:{server.port}{handler.path}"
        handler.whole(b"", status=302, Location=target)

    return answer


def test_exchange_redirect_is_not_followed(budget):
    """A redirect of the exchange is not followed."""
    with (
        hostile_server(reported_time) as other,
        hostile_server(redirect_to(other)) as server,
        client_of(server, budget, Waits()) as client,
        pytest.raises(ExchangeUnreachableError) as raised,
    ):
        client.server_time()
    assert f"to http://localhost:{other.port}/fapi/v1/time (HTTP 302)" in str(raised.value)
    assert other.paths == []


def test_archive_redirect_is_not_followed():
    """A redirect of the archive is not followed."""
    with hostile_server(huge) as other, hostile_server(redirect_to(other)) as server:
        [found] = downloads(BinanceSettings(archive_url=server.url), [DAY], Waits())
    assert f"a redirect to http://localhost:{other.port}/{DAY.path}" in found.problem
    assert other.paths == []


def test_webhook_redirect_is_an_error():
    """A redirect of the webhook is an error."""
    with hostile_server(reported_time) as other, hostile_server(redirect_to(other)) as server:
        settings = AlertsSettings(webhook_url=SecretStr(f"{server.url}/T0KEN"))
        with pytest.raises(AlertError, match="HTTP 302") as raised:
            Alerts(settings).send({"text": "stale"})
    assert "T0KEN" not in str(raised.value)
    assert other.paths == []


@pytest.mark.parametrize("answer", [huge, endless, dripping_body, gzip_bomb])
def test_webhook_reply_body_is_unread(answer):
    """The body of the webhook's reply is not read."""
    with hostile_server(answer) as server:
        settings = AlertsSettings(webhook_url=SecretStr(f"{server.url}/T0KEN"))
        Alerts(settings).send({"text": "stale"})
    assert server.paths == ["/T0KEN"]


# Headers with invalid numbers


def refused_once(status, **headers):
    """An exchange that refuses its first request with these headers."""
    refused = []

    def answer(handler):
        if not refused:
            refused.append(handler.path)
            body = b'{"code":-1003,"msg":"Too many requests."}'
            handler.whole(body, status, **headers)
        else:
            reported_time(handler)

    return answer


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "7", 7),
        (429, "0", 1),
        (429, "999999", 120),
        (418, "250", 250),
        *((status, garbage, 60) for status in (429, 418) for garbage in (
            "9" * 30, "-5", "soon", "", "1e3", "12.5", "\xb2", "Sat, 28 Nov 2026 11:24:43 GMT",
        )),
    ],
)  # fmt: skip
def test_retry_after_is_kept_within_reason(budget, status, retry_after, seconds):
    waits = Waits()
    with (
        hostile_server(refused_once(status, Retry_After=retry_after)) as server,
        client_of(server, budget, waits) as client,
    ):
        assert client.server_time() == NOON
    # At the turn of a minute the client waits a second longer: no reply has said which minute it is.
    assert seconds - 0.5 <= sum(waits.seconds) <= seconds + 1.5


def test_ban_lasts_three_days_at_most(budget):
    """A ban is believed for three days at most."""
    with (
        hostile_server(refused_once(418, Retry_After="999999")) as server,
        client_of(server, budget, Waits()) as client,
        pytest.raises(ExchangeBannedError, match="pipeline-assets unblock"),
    ):
        client.server_time()
    block = budget.block()
    assert 3 * 86_400_000 - 60_000 < block.left_ms <= 3 * 86_400_000
    assert block.cause == "HTTP 418, -1003 Too many requests. in the reply to the server time"


@pytest.mark.parametrize(
    "date_header", ["tomorrow", "", "Sat, 28 Nov 2026 11:24:43 -0000", "9" * 40]
)
def test_invalid_date_header_is_ignored(budget, date_header):
    """A date header that is none is ignored."""
    waits = Waits()

    def answer(handler):
        handler.send_response_only(429 if not server.paths[1:] else 200)
        handler.send_header("Date", date_header)
        body = json.dumps({"serverTime": to_milliseconds(NOON)}).encode()
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with hostile_server(answer) as server, client_of(server, budget, waits) as client:
        assert client.server_time() == NOON
    assert sum(waits.seconds) == pytest.approx(60, abs=0.5)


def test_far_ahead_clock_blocks_briefly(budget):
    """An exchange clock far ahead blocks requests no longer than the reply says.

    The moment comes from a Date header of the year 9999; the block ends after a minute.
    """

    def answer(handler):
        handler.send_response_only(429)
        handler.send_header("Date", "Fri, 31 Dec 9999 23:59:59 GMT")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    class StoppedError(Exception):
        pass

    async def stop(_seconds):
        raise StoppedError

    with (
        hostile_server(answer) as server,
        ExchangeClient(
            BinanceSettings(rest_url=server.url), budget, Priority.INGEST_1M, sleep=stop
        ) as client,
        pytest.raises(StoppedError),
    ):
        client.server_time()
    assert budget.block().left_ms <= 60_000


@pytest.mark.parametrize("used", ["", "many", "-1", "1e3", "9" * 30, "12.5", "\xb2"])
def test_invalid_used_weight_is_ignored(budget, used):
    """A used weight that is not a number is ignored."""
    with (
        hostile_server(lambda handler: reported_time(handler, X_MBX_USED_WEIGHT_1M=used)) as server,
        client_of(server, budget, Waits()) as client,
    ):
        assert client.server_time() == NOON
        assert client.weight_now.used == 0


NO_TIMES = (
    *(b"[" * 100_000, b'{"serverTime":' + b"9" * 30 + b"}", b"{}"),
    *(b'{"serverTime":true}', b'{"serverTime":1}'),
)


@pytest.mark.parametrize("body", NO_TIMES)
def test_invalid_time_gives_no_traceback(budget, body):
    """A server time that is not a time gives an error message, not a traceback."""
    with (
        hostile_server(lambda handler: handler.whole(body)) as server,
        client_of(server, budget, Waits()) as client,
        pytest.raises(ExchangeUnreachableError, match="MalformedReplyError"),
    ):
        client.server_time()


# Texts


def test_error_text_has_no_control_characters(budget):
    """The exchange's error text is shown without control characters."""
    body = json.dumps({"code": -1121, "msg": CONTROLS}).encode()
    with hostile_server(klines_as(lambda handler: handler.whole(body, 400))) as server:
        reported = klines_error(server, budget)
    assert "-1121 \\x1b[2J\\x1b]0;owned\\x07 ERROR: forged" in reported
    assert reported.isprintable()
