"""The end of the command `demo`: what was traded today on paper. The gateway's whole state is printed by
gateway.py.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline_assets.cli.output import table
from pipeline_assets.errors import PipelineError
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.services.gateway.client import GatewayClient
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

# So many are named of a kind.
_NAMED = 3
_FEW = (
    "Candidates come with live minutes, so a short demo has few or none. Later: "
    "`pipeline-assets candidates` and `pipeline-assets gateway state`."
)


def print_trading(terminal: "Console", settings: Settings) -> None:
    """Print candidates, decisions, paper orders, fills and positions, or which system does not answer."""
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.services.gateway.client import GatewayClient

    try:
        today = Exchange(settings).server_time().date()
        with GatewayClient(settings.gateway) as gateway:
            rows = _decided(settings, today) + _traded(gateway)
    except PipelineError as error:
        terminal.print(f"The trades of the day are unknown: {error}", style="red", markup=False)
        return
    shown = table(f"Traded on paper, {today}")
    for name in ("", "number", ""):
        shown.add_column(name, justify="right" if name else "left")
    for what, number, text in rows:
        shown.add_row(what, f"{number:,}", text)
    terminal.print(shown)
    terminal.print(_FEW)


def _decided(settings: Settings, day: date) -> list[tuple[str, int, str]]:
    from pipeline_assets.resources.candidate_objects import LATE, read_stored
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.trading.decision_store import read_decisions

    store = ObjectStore(settings.s3)
    stored = read_stored(store, day)
    decisions = read_decisions(store, day)
    reasons = Counter(each.reason or "accepted" for each in decisions)
    return [
        ("candidates published", int((~stored[LATE]).sum()), ""),
        ("decisions", len(decisions), _list(f"{n} {reason}" for reason, n in reasons.items())),
    ]


def _traded(gateway: "GatewayClient") -> list[tuple[str, int, str]]:
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    orders = gateway.call(pb.ListOrdersRequest(), pb.ListOrdersResponse).orders
    fills = gateway.call(pb.ListFillsRequest(), pb.ListFillsResponse).fills
    held = gateway.call(pb.ListPositionsRequest(), pb.ListPositionsResponse).positions
    positions = [each for each in held if Decimal(each.quantity)]
    return [
        ("open orders", len(orders), _list(_order(each.order) for each in orders)),
        ("fills", len(fills), _list(f"{_order(each)} at {each.price}" for each in fills)),
        (
            "positions",
            len(positions),
            _list(f"{each.quantity} {each.symbol}" for each in positions),
        ),
    ]


def _order(order: "pb.Order | pb.Fill") -> str:
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    side = pb.Side.Name(order.side).removeprefix("SIDE_").lower()
    return f"{side} {order.quantity} {order.symbol}"


def _list(texts: Iterable[str]) -> str:
    found = list(texts)
    return ", ".join(found[:_NAMED]) + (" …" if len(found) > _NAMED else "")
