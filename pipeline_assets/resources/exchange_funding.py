"""Funding rates of the exchange: requests of many symbols under their own limit. Replies are read in
market/funding.py, how a request is repeated in exchange_requests.py.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.funding import FundingRates, read_intervals, read_reply
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.binance_client import Reply
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_errors import (
    ExchangeBannedError,
    ExchangeError,
    ExchangeUnreachableError,
)
from pipeline_assets.resources.exchange_questions import Question
from pipeline_assets.resources.funding_budget import FundingAllowance, FundingBudget

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Priority
    from pipeline_assets.settings import Settings

# A month of hourly rates has 744 rows: a reply holds any month.
_LIMIT = 1000
_EARLY = timedelta(minutes=1)


@dataclass(frozen=True)
class FundingReply:
    """One symbol's rates of one window, or the reason why there are none.

    Attributes:
        symbol: whose.
        window: what was asked for, at most a month.
        found: the rates; None where the request failed.
        error: why it failed.
    """

    symbol: str
    window: Window
    found: FundingRates | None = None
    error: str | None = None


class FundingClient(ExchangeClient):
    """A connection to the exchange that asks for funding rates too."""

    def __init__(self, settings: "Settings", priority: "Priority", **options: Any) -> None:
        """Keep the arguments; `options` are those of ExchangeClient."""
        super().__init__(settings.binance, priority=priority, **options)
        self._allowance = FundingAllowance(
            FundingBudget(
                settings.redis, settings.binance.budget_name, settings.binance.funding_limit
            ),
            priority,
            self._requests.clock,
            self._requests.weight,
            self._requests.sleep,
        )

    @property
    def funding_requests(self) -> int:
        """The requests for funding rates sent so far, repeated ones included."""
        return self._allowance.spent

    def funding_intervals(self) -> dict[str, int]:
        """Return the hours between settlements of the symbols whose interval was changed.

        Empty where this question has no usable answer: rates show the interval too, one settlement later.

        Raises:
            ExchangeUnreachableError, ExchangeBannedError: as `funding_rates`.
        """
        try:
            return self._call(self._intervals())
        except (ExchangeUnreachableError, ExchangeBannedError):
            raise
        except ExchangeError:
            return {}

    def funding_rates(self, windows: Sequence[tuple[str, Window]]) -> list[FundingReply]:
        """Request the rates of these symbols and windows, many at once; a reply each, in this order.

        Reading changes nothing, so it may be repeated at will.

        Args:
            windows: symbols, each with a window of a month at most.

        Raises:
            ExchangeUnreachableError: the exchange does not answer any request within the deadline.
            ExchangeBannedError: this address may send nothing for more than five minutes.
        """
        return self._call(self._rates(windows))

    async def _intervals(self) -> dict[str, int]:
        def send() -> Awaitable[Reply]:
            reply: Awaitable[Reply] = self._requests.client.futures_v1_get_funding_info()
            return reply

        return await self._requests.ask(
            Question(
                *("fundingInfo", 0, send, lambda reply: read_intervals(reply.body)),
                one_of_many=True,
                allowance=self._allowance,
            )
        )

    async def _rates(self, windows: Sequence[tuple[str, Window]]) -> list[FundingReply]:
        async def ask(each: tuple[str, Window]) -> FundingReply:
            symbol, window = each
            try:
                return FundingReply(symbol, window, await self._one(symbol, window))
            except (ExchangeUnreachableError, ExchangeBannedError):
                raise
            except ExchangeError as error:
                return FundingReply(symbol, window, error=str(error))

        return await self._ask_all(windows, ask, self._allowance)

    async def _one(self, symbol: str, window: Window) -> FundingRates:
        def send() -> Awaitable[Reply]:
            reply: Awaitable[Reply] = self._requests.client.futures_funding_rate(
                symbol=symbol,
                # A settlement is stamped near its hour, hardly before it.
                startTime=to_milliseconds(window.start - _EARLY),
                endTime=to_milliseconds(window.end - _EARLY) - 1,
                limit=_LIMIT,
            )
            return reply

        return await self._requests.ask(
            Question(
                *(f"{symbol} funding rates", 0, send, lambda reply: read_reply(symbol, reply.body)),
                one_of_many=True,
                allowance=self._allowance,
            )
        )
