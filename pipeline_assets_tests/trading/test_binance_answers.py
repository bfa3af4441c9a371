"""The meaning of Binance's answers to a new order: a refusal only where no order exists for certain."""

import json

import pytest

from pipeline_assets.trading.binance_answers import order_answer
from pipeline_assets.trading.messages import Accepted, Refused, Unanswered

_TORN = b'{"orderId":1,"clientOrd'
_HTML = b"<html><body>502 Bad Gateway</body></html>"


def _body(code: int, text: str = "said so") -> bytes:
    return json.dumps({"code": code, "msg": text}).encode()


def _answer(status: int, body: bytes, *, conditional: bool = False):
    return order_answer("a-1", status, body, conditional=conditional)


def test_confirmed_order_is_accepted():
    plain = b'{"orderId":22542179,"clientOrderId":"a-1","status":"NEW"}'
    stop = b'{"algoId":2146760,"clientAlgoId":"a-1","algoStatus":"NEW"}'
    assert _answer(200, plain) == Accepted("a-1", "22542179")
    assert _answer(200, stop, conditional=True) == Accepted("a-1", "2146760")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, _TORN),
        (200, b""),
        (200, b"[]"),
        (200, b'{"orderId":1,"clientOrderId":"another"}'),
        (400, _body(-1006)),
        (400, _body(-1007)),
        (408, _body(-1007, "Timeout waiting for response from backend server.")),
        (400, _body(-1000)),
        (400, _body(-1001)),
        (400, _body(-4116, "ClientOrderId is duplicated.")),
        (400, _body(-9999, "a code of next year")),
        (400, _HTML),
        (403, _HTML),
        (500, _body(-2019)),
        (502, _HTML),
        (503, _body(-1000, "Unknown error, please check your request or try again later.")),
        (503, _body(-1001, "Internal error; unable to process your request. Please try again.")),
        (503, b"Service Unavailable."),
        (504, b""),
        (307, b""),
        (429, _HTML),
        (418, b""),
    ],
)
def test_unsure_answer_leaves_order_unknown(status, body):
    assert isinstance(_answer(status, body), Unanswered)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, code) for code in (-1021, -1022, -1111, -1121, -2018, -2019, -2021, -2022)),
        *((400, code) for code in (-4003, -4005, -4014, -4118, -4120, -4131, -4164, -4400, -5022)),
        *((401, code) for code in (-2014, -2015)),
        *((429, code) for code in (-1003, -1015)),
        (418, -1003),
    ],
)
def test_certain_refusal_begins_with_code(status, code):
    found = _answer(status, _body(code, "why"))
    assert isinstance(found, Refused)
    assert found.reason.startswith(f"{code}: why")


def test_failed_service_is_refusal():
    assert isinstance(_answer(503, _body(-1001, "Service Unavailable.")), Refused)
    assert isinstance(_answer(503, _body(-1008, "Request throttled")), Refused)


def test_text_of_answer_is_made_safe():
    found = _answer(400, _body(-2019, "\x1b[2Jgone\n" + "x" * 5_000))
    assert "\x1b" not in found.reason
    assert len(found.reason) < 300
