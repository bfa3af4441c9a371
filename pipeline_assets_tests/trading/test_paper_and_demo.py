"""The same stream on the paper venue and on the demo venue of one replay exchange: each difference has one
named cause within its bound, and a difference that was planted has none.

`python -m pipeline_assets_tests.trading.paper_and_demo SEED` prints the differences of a stream.
"""

import asyncio
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.trading_rules import Fees
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.trading import compared_desk
from pipeline_assets_tests.trading.compared_desk import Course, Desk, UnsettledError
from pipeline_assets_tests.trading.compared_market import compared_exchange
from pipeline_assets_tests.trading.compared_venues import PaperSide
from pipeline_assets_tests.trading.fill_causes import Cause, unnamed
from pipeline_assets_tests.trading.paper_and_demo import (
    SEEDS,
    Compared,
    trade_on_both,
    trade_on_paper,
)

# Thirteen CPU seconds without imports on a busy machine: too long for `make test`.
pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("compiled")]
_SEED = 6


@pytest.fixture(scope="module")
def exchange() -> Iterator[ExchangeHandle]:
    """Provide an exchange in stepped time."""
    with compared_exchange() as handle:
        yield handle


@pytest.fixture(scope="module")
def compared(exchange: ExchangeHandle, redis_server: RedisServer) -> Compared:
    """Provide one stream on both venues; a test that changes a course takes a copy."""
    return asyncio.run(trade_on_both(exchange, redis_server, _SEED))


def test_every_difference_has_a_cause(compared: Compared) -> None:
    differences = compared.differences()
    assert not unnamed(differences)
    assert {
        Cause.LATER_OPEN, Cause.SLIPPAGE, Cause.END_OF_MINUTE, Cause.OWN_LEVEL, Cause.PARTS,
        Cause.BETTER_PRICE, Cause.MAKER_FEE, Cause.FEE_OF_PRICE, Cause.REST_OF_MINUTE,
        Cause.BOTH_TOUCHED, Cause.WAITING_EXIT, Cause.FUNDING_TIME,
    } <= {each.cause for each in differences}  # fmt: skip


def test_differences_add_up(compared: Compared) -> None:
    """The parts explain the whole difference between the two ledgers, which round each fill down."""
    explained = sum((each.money for each in compared.differences()), Decimal(0))
    fills = len(compared.paper.fills) + len(compared.demo.fills)
    assert abs(explained - (compared.paper.cash - compared.demo.cash)) <= fills
    assert abs(compared.paper.cash - compared.demo.cash) > fills


@pytest.mark.timeout(1_800)
def test_other_streams_have_named_causes(
    exchange: ExchangeHandle, redis_server: RedisServer
) -> None:
    """Every named cause occurs in these streams."""
    found: set[Cause | None] = set()
    for seed in SEEDS:
        differences = asyncio.run(trade_on_both(exchange, redis_server, seed)).differences()
        assert not unnamed(differences), seed
        found |= {each.cause for each in differences}
    assert found == set(Cause)


# --- planted differences ---


def _changed(course: Course, number: int, **changes: object) -> None:
    course.fills[number] = msgspec.structs.replace(course.fills[number], **changes)


def _fee(course: Course) -> None:
    _changed(course, 3, fee=course.fills[3].fee + 2)


def _twice(course: Course) -> None:
    course.fills.append(course.fills[3])


def _twice_as_another_trade(course: Course) -> None:
    course.fills.append(msgspec.structs.replace(course.fills[3], trade_id=10**9))


def _missing(course: Course) -> None:
    del course.fills[0]


def _side(course: Course) -> None:
    fill = course.fills[3]
    _changed(course, 3, side="sell" if fill.side == "buy" else "buy")


def _quantity(course: Course) -> None:
    _changed(course, 0, quantity=course.fills[0].quantity // 2)


def _price(course: Course) -> None:
    """A quarter of a percent is more than a candle moves."""
    fill = course.fills[0]
    price = fill.price + fill.price // 400
    fee = round(Decimal(fill.fee) * price / fill.price)
    _changed(course, 0, price=price, fee=fee)


def _late(course: Course) -> None:
    _changed(course, 0, time=course.fills[0].time + 60_000)


def _payment(course: Course) -> None:
    course.payments = {key: paid + 5 for key, paid in course.payments.items()}


def _no_payment(course: Course) -> None:
    course.payments.clear()


def _unknown_order(course: Course) -> None:
    _changed(course, 0, client_id="unknown")


def _other_decision(course: Course) -> None:
    first = next(iter(course.decisions))
    course.decisions[first] = course.decisions[first].model_copy(update={"reason": "position_held"})


@pytest.mark.parametrize("venue", ["paper", "demo"])
@pytest.mark.parametrize(
    "plant",
    [
        _fee, _twice, _twice_as_another_trade, _missing, _side, _quantity, _price, _late, _payment,
        _no_payment, _unknown_order, _other_decision,
    ],
)  # fmt: skip
def test_planted_difference_is_found(
    compared: Compared, venue: str, plant: Callable[[Course], None]
) -> None:
    course = deepcopy(getattr(compared, venue))
    plant(course)
    assert unnamed(replace(compared, **{venue: course}).differences())


@pytest.mark.parametrize(
    ("fees", "model"),
    [
        (Fees(taker=Decimal("0.0004")), FillModel()),
        (Fees(maker=Decimal("0.0004")), FillModel()),
        (Fees(), FillModel(slippage=Decimal("0.0004"))),
    ],
    ids=["taker", "maker", "slippage"],
)
def test_wrong_venue_is_found(compared: Compared, fees: Fees, model: FillModel) -> None:
    """A paper venue with another fee or slippage than documented."""
    wrong = asyncio.run(trade_on_paper(compared.market, compared.plan, fees, model))
    assert unnamed(replace(compared, paper=wrong).differences())


def test_waiting_names_work_under_way(compared: Compared, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step does not begin while something is under way, and the wait for it ends."""

    class Stuck(PaperSide):
        stuck = False

        async def under_way(self) -> list[str]:
            return ["an answer is missing"] if self.stuck else []

    async def wait() -> None:
        async with Desk(compared.market, lambda clock: Stuck(compared.market, clock)) as desk:
            desk.side.stuck = True
            monkeypatch.setattr(compared_desk, "_LONGEST_REAL_SECONDS", 0)
            await desk.settle()

    with pytest.raises(UnsettledError, match="an answer is missing"):
        asyncio.run(wait())
