"""Questions to Binance about orders, trades, positions and payments. Sending orders is in binance_venue.py,
and reading single replies in binance_replies.py.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.binance_account import (
    AccountClient,
    Parameters,
    json_of,
)
from pipeline_assets.resources.binance_endpoints import (
    ALL_STOPS,
    INCOME,
    OPEN_ORDERS,
    OPEN_STOPS,
    ORDER,
    POSITIONS,
    STOP,
    TRADES,
    Endpoint,
)
from pipeline_assets.trading import messages
from pipeline_assets.trading.binance_answers import (
    KEY_ADVICE,
    KEY_CODES,
    Problem,
    is_missing,
    problem_of,
)
from pipeline_assets.trading.binance_replies import (
    Row,
    TriggeredOrders,
    VenueReplyError,
    fill_of,
    in_order,
    open_orders_of,
    order_seen,
    payments_of,
    positions_of,
    reading,
    stop_seen,
)

# Binance reads the trades of seven days at once, and at most 1,000 rows.
_SPAN = 7 * 86_400_000
_PAGE = 1_000
_MOST_PAGES = 200
# The id of a transaction is unique within its type and user.
_INCOME_KEY = ("incomeType", "tranId", "symbol", "asset", "time")
_MOST_KNOWN = 10_000
# Trades of a stop are looked up among the conditional orders of this time before the trade.
_STOPS_BEFORE = 7 * 86_400_000
_MOST_STOPS = 500


class VenueRefusedError(OutsideSystemError):
    """Binance refused a question. The message has its answer, and the settings if the key is why."""

    def __init__(self, what: str, problem: Problem) -> None:
        advice = f" {KEY_ADVICE}" if problem.code in KEY_CODES else ""
        super().__init__(f"Binance refused the question about {what}: {problem}.{advice}")
        self.problem = problem


class BinanceQueries:
    """Asks, and remembers which client id an order of the venue has.

    A reading of trades names orders by the venue's id only. An order that is not known may be the gateway's
    own, whose answer was lost, a liquidation, or another program's. Its client id is asked for, once.
    """

    def __init__(
        self,
        account: AccountClient,
        triggered: TriggeredOrders,
        clock: Callable[[], int],
        heed: Callable[[Problem], None],
    ) -> None:
        """Join the parts.

        Args:
            account: sends the requests.
            triggered: the stops that were triggered, shared with the stream.
            clock: the time in milliseconds by which the gateway decides.
            heed: takes the error of each refused question.
        """
        self._account, self._triggered, self._clock, self._heed = account, triggered, clock, heed
        self._names: dict[tuple[str, str], str] = {}

    def note(self, symbol: str, order_id: str, client_id: str) -> None:
        """Remember which order an order id belongs to."""
        self._names[symbol, order_id] = client_id
        while len(self._names) > _MOST_KNOWN:
            self._names.pop(next(iter(self._names)))

    async def order(
        self, client_id: str, symbol: str, *, conditional: bool
    ) -> messages.OrderSeen | messages.OrderMissing:
        """Query an order.

        Raises:
            OutsideSystemError: no answer that says anything about the order.
        """
        asked_at = self._clock()
        name = "clientAlgoId" if conditional else "origClientOrderId"
        row = await self._row(STOP if conditional else ORDER, {"symbol": symbol, name: client_id})
        if row is None:
            return messages.OrderMissing(client_id, asked_at)
        with reading(f"order {client_id}"):
            if conditional:
                return await self._stop(row)
            self.note(symbol, str(row["orderId"]), client_id)
            return order_seen(row, self._triggered)

    async def _stop(self, row: Row) -> messages.OrderSeen:
        symbol, order_id = str(row["symbol"]), str(row.get("actualOrderId") or "")
        self._triggered.note(symbol, order_id, str(row["clientAlgoId"]), str(row["algoId"]))
        if order_id in ("", "0"):
            return stop_seen(row, None)
        return stop_seen(row, await self._row(ORDER, {"symbol": symbol, "orderId": order_id}))

    async def trades(self, symbol: str, since: int) -> messages.TradesRead:
        """Read the trades of a symbol from a time on.

        Raises:
            OutsideSystemError: one of the questions has no answer.
        """
        asked_at = self._clock()
        rows = await self.trade_rows(symbol, since, self._account.now())
        with reading(f"the trades of {symbol}"):
            for order_id in {str(row["orderId"]): None for row in rows}:
                await self._learn(symbol, order_id)
            fills = tuple(
                fill_of(row, self._names.get((symbol, str(row["orderId"])), "")) for row in rows
            )
        return messages.TradesRead(symbol, since, asked_at, fills)

    async def trade_rows(self, symbol: str, since: int, end: int) -> list[Row]:
        """Read by windows of seven days, and a full window on by the trade id.

        Raises:
            OutsideSystemError: one of the questions has no answer.
        """
        found: dict[int, Row] = {}
        start = since
        while start <= end:
            until = min(start + _SPAN - 1, end)
            window: Parameters = {"startTime": start, "endTime": until, "limit": _PAGE}
            for _ in range(_MOST_PAGES):
                rows = await self._list(TRADES, {"symbol": symbol, **window})
                with reading(f"the trades of {symbol}"):
                    found |= {
                        int(row["id"]): row for row in rows if since <= int(row["time"]) <= end
                    }
                    if len(rows) < _PAGE:
                        break
                    last = in_order(rows, "id")[-1]
                    if int(last["time"]) > until:
                        break
                    window = {"fromId": int(last["id"]) + 1, "limit": _PAGE}
            else:
                raise VenueReplyError(f"{symbol} has more trades than can be read at once.")
            start = until + 1
        return in_order(list(found.values()), "id")

    async def _learn(self, symbol: str, order_id: str) -> None:
        """Find out which order a trade belongs to; one that is not shown yet stays unknown."""
        stop = self._triggered.stop(symbol, order_id)
        if stop:
            self.note(symbol, order_id, stop[0])
        if (symbol, order_id) in self._names:
            return
        row = await self._row(ORDER, {"symbol": symbol, "orderId": order_id})
        if row is None:
            return
        client_id = str(row["clientOrderId"])
        if str(row.get("origType", row["type"])) not in ("MARKET", "LIMIT"):
            client_id = await self._stop_of(symbol, order_id, int(row["time"])) or client_id
        self.note(symbol, order_id, client_id)

    async def _stop_of(self, symbol: str, order_id: str, time: int) -> str:
        """Return the client id of the conditional order that became an order; empty if there is none."""
        wanted: Parameters = {
            "symbol": symbol,
            "startTime": time - _STOPS_BEFORE + 1,
            "endTime": time + 1,
            "limit": _MOST_STOPS,
        }
        for row in await self._list(ALL_STOPS, wanted):
            if str(row.get("actualOrderId") or "") == order_id:
                client_id = str(row["clientAlgoId"])
                self._triggered.note(symbol, order_id, client_id, str(row["algoId"]))
                return client_id
        return ""

    async def positions(self) -> messages.PositionsRead:
        """Read all positions.

        Raises:
            OutsideSystemError: no answer.
        """
        asked_at = self._clock()
        rows = await self._list(POSITIONS)
        with reading("the positions"):
            return messages.PositionsRead(asked_at, positions_of(rows))

    async def open_orders(self) -> messages.OpenOrdersRead:
        """Read the open orders of all symbols, conditional ones included.

        Raises:
            OutsideSystemError: no answer.
        """
        asked_at = self._clock()
        # The conditional ones first: one that is triggered in between is then seen twice, not lost.
        stops = await self._list(OPEN_STOPS)
        orders = await self._list(OPEN_ORDERS)
        with reading("the open orders"):
            return messages.OpenOrdersRead(asked_at, open_orders_of(orders, stops))

    async def payments(self, since: int) -> list[messages.FundingPaid]:
        """Read the funding payments from a time on.

        Raises:
            OutsideSystemError: no answer.
        """
        rows = await self.income_rows({"incomeType": "FUNDING_FEE"}, since)
        with reading("the funding payments"):
            return list({(each.symbol, each.time): each for each in payments_of(rows)}.values())

    async def income_rows(self, wanted: Parameters, since: int) -> list[Row]:
        """Read the income from a time on; `wanted` says which, and may name the end.

        Raises:
            OutsideSystemError: no answer.
        """
        found: dict[tuple[str, ...], Row] = {}
        start = since
        for _ in range(_MOST_PAGES):
            rows = await self._list(INCOME, {**wanted, "startTime": start, "limit": _PAGE})
            with reading("the income"):
                found |= {tuple(str(row[name]) for name in _INCOME_KEY): row for row in rows}
                if len(rows) < _PAGE:
                    return list(found.values())
                # A full page may end within the income of one moment, so that moment is read again.
                start = max(start + 1, int(in_order(rows, "time")[-1]["time"]))
        raise VenueReplyError("There is more income than can be read at once.")

    async def document(self, endpoint: Endpoint) -> Any:
        """Return the decoded answer to a question without parameters.

        Raises:
            OutsideSystemError: no answer.
        """
        return await self._found(endpoint, {})

    async def _row(self, endpoint: Endpoint, parameters: Parameters) -> Row | None:
        """Return one object, or None if there is no such order."""
        try:
            found = await self._found(endpoint, parameters)
        except VenueRefusedError as error:
            if is_missing(error.problem):
                return None
            raise
        if not isinstance(found, Mapping):
            raise VenueReplyError(f"Binance's reply to {endpoint.path} is no object.")
        return found

    async def _list(self, endpoint: Endpoint, parameters: Parameters | None = None) -> list[Row]:
        found = await self._found(endpoint, parameters or {})
        if not isinstance(found, list):
            raise VenueReplyError(f"Binance's reply to {endpoint.path} is no list.")
        return found

    async def _found(self, endpoint: Endpoint, parameters: Parameters) -> Any:
        reply = await self._account.ask(endpoint, parameters)
        if reply.status != HTTPStatus.OK:
            problem = problem_of(reply.status, reply.body)
            self._heed(problem)
            raise VenueRefusedError(endpoint.path, problem)
        return json_of(reply)
