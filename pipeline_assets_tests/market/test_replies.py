from __future__ import annotations

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.candles import RAW_COLUMNS, empty_raw, raw_schema
from pipeline_assets.market.replies import MalformedReplyError, check_reply, raw_candles
from pipeline_assets_tests.market.frames import raw_row, reply_body
from pipeline_assets_tests.market_data import market_data

BODY = reply_body([raw_row(), raw_row(open="100.1000000000000000000001")])

integers = st.integers(-(2**63), 2**63 - 1)
decimals = st.text("0123456789.-+eE", max_size=24)
awkward = st.sampled_from(["", "NaN", "1,000.0", 'say "1"', "1\n2", "價", "[", "],[", " 1.0 "])


def rows_of(text):
    fields = [integers if raw_schema()[name] == pl.Int64 else text for name in RAW_COLUMNS[1:]]
    return st.lists(st.tuples(*fields).map(list), max_size=5)


def recorded_replies():
    recorded = orjson.loads(
        (market_data() / "rest_recorded/gct_binance_http_recorded.json").read_bytes()
    )
    for route in ("/fapi/v1/klines", "/api/v3/klines", "/dapi/v1/klines"):
        for call in recorded["routes"][route]["GET"]:
            yield call["queryString"], call["data"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["BTCUSDT", "币安人生USDT", "1000PEPEUSDT"]),
            rows_of(decimals) | rows_of(decimals | awkward),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_rows_are_kept_to_the_character(replies):
    """Every row is read in order and to the character."""
    received, expected = [], []
    for symbol, rows, indented in replies:
        option = orjson.OPT_INDENT_2 if indented else None
        received.append((symbol, orjson.dumps(rows, option=option)))
        expected += [(symbol, *row) for row in rows]
        assert check_reply(*received[-1]) == len(rows)
    frame = raw_candles(received)
    assert frame.schema == raw_schema()
    assert frame.rows() == expected


def test_empty_replies_give_empty_frame():
    """Replies without rows give an empty raw frame."""
    assert raw_candles([]).equals(empty_raw())
    assert raw_candles([("BTCUSDT", b"[]"), ("ETHUSDT", b" [ ] ")]).equals(empty_raw())


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "is empty"),
        (b"<html><body>502 Bad Gateway</body></html>", "is HTML"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "is not a list"),
        (b"null", "is not a list"),
        (BODY[: len(BODY) // 2], "is not complete JSON"),
        (BODY[:-1], "is not complete JSON"),
        (BODY[: BODY.index(b"],[") + 1], "is not complete JSON"),
        (BODY + BODY, "is not complete JSON"),
        (b"[[]]", "0 fields in candle 0"),
        (b"[{}]", "holds a dict where candle 0"),
        (BODY.replace(b',"0"]', b"]", 1), "11 fields in candle 0"),
        (BODY.replace(b',"0"]', b',"0","0"]', 1), "13 fields in candle 0"),
        (BODY.replace(b'"100.10"', b"100.10", 1), "open 100.1 in candle 0"),
        (BODY.replace(b'"100.10"', b"null", 1), "open None in candle 0"),
        (BODY.replace(b",31,", b',"31",', 1), "trades '31' in candle 0"),
        (BODY.replace(b",31,", b",true,", 1), "trades True in candle 0"),
    ],
)
def test_incomplete_reply_is_refused_by_name(body, fault):
    """A reply that is not complete klines JSON is refused with the symbol's name."""
    for read in (
        lambda: check_reply("币安人生USDT", body),
        lambda: raw_candles([("币安人生USDT", body)]),
    ):
        with pytest.raises(MalformedReplyError) as caught:
            read()
        assert "币安人生USDT" in str(caught.value)
        assert fault in str(caught.value)


@pytest.mark.parametrize("count", [b"3.5", b"99999999999999999999", b"", b"-", b"1e3"])
def test_non_integer_count_is_refused(count):
    """A count that is not an integer is refused when it is read."""
    body = BODY.replace(b",31,", b"," + count + b",", 1)
    with pytest.raises(MalformedReplyError, match="ETHUSDT"):
        raw_candles([("BTCUSDT", BODY), ("ETHUSDT", body), ("XRPUSDT", BODY)])


@pytest.mark.parametrize(
    "time", [b"017", b"179565120000000000000000", b"1.5", b"9223372036854775808"]
)
def test_unreadable_time_is_refused_on_receipt(time):
    """A time that cannot be read is refused where the reply is received.

    By its punctuation such a reply is one: refused later, it would cost other symbols' replies too.
    """
    first = BODY[2 : BODY.index(b",")]
    body = BODY.replace(first, time, 1)
    assert body != BODY
    with pytest.raises(MalformedReplyError, match="BTCUSDT"):
        check_reply("BTCUSDT", body)


def test_message_shows_only_bodys_start():
    """A message shows the start of the body and no more."""
    body = b"<html>" + b"x" * 5000
    with pytest.raises(MalformedReplyError) as caught:
        check_reply("BTCUSDT", body)
    assert "<html>xxx" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_recorded_replies_are_read():
    """The recorded replies are read, and the recorded errors are refused."""
    read = refused = 0
    for query, data in recorded_replies():
        body = orjson.dumps(data)
        if isinstance(data, list):
            assert check_reply(query, body) == len(data)
            assert raw_candles([(query, body)]).rows() == [(query, *row) for row in data]
            read += 1
        else:
            with pytest.raises(MalformedReplyError):
                check_reply(query, body)
            refused += 1
    assert read > 3
    assert refused > 0
