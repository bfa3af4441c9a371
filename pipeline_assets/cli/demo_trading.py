"""The end of the command `demo`: what was traded today on paper. The gateway's whole state is printed by
gateway.py.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline_assets.cli.output import table
from pipeline_assets.errors import PipelineError
from pipeline_assets.settings import Settings
from pipeline_assets.stop_flag import StopFlag, set_by_signals
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.services.gateway.client import GatewayClient
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
    from pipeline_assets.trading.decisions import Decision

# A name, a number, and details.
_Row = tuple[str, str, str]
# So many are named of a kind.
_NAMED = 3
_LIVE = (
    "Candidates come with live minutes; an accepted one is filled two minutes later. Afterwards: "
    "`pipeline-assets candidates` and `pipeline-assets gateway state`."
)
_NOT_LIVE = (
    "`--once` stops before live minutes; orders that are still open are filled after the next start. The "
    "demo without it trades on paper."
)
# The trader decides 25 seconds after a minute's close, and a candidate is published 10 seconds after at best.
_LONGEST_WAIT = 40.0
_WAIT_SECONDS = 2.0
# Candidates of older minutes are decided about when a trader comes back, or never.
_WAITED_FOR = timedelta(minutes=3)


def print_trading(
    terminal: "Console",
    settings: Settings,
    *,
    live: bool = True,
    longest_wait: float = _LONGEST_WAIT,
) -> None:
    """Print candidates, decisions, paper orders, fills and positions, or which system does not answer.

    Args:
        terminal: where to print.
        settings: of the stack.
        live: whether minutes were traded. Then the decisions about the newest candidates are waited for.
        longest_wait: seconds to wait; Ctrl-C ends the wait.
    """
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.services.gateway.client import GatewayClient

    try:
        if live:
            _wait_for_decisions(terminal, settings, longest_wait)
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
        shown.add_row(what, number, text)
    terminal.print(shown)
    terminal.print(_LIVE if live else _NOT_LIVE)


def _wait_for_decisions(terminal: "Console", settings: Settings, longest: float) -> None:
    """Wait until the trader has decided about all new candidates."""
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore

    store, stop, announced = ObjectStore(settings.s3), StopFlag(), 0
    since = Exchange(settings).server_time() - _WAITED_FOR
    end = time.monotonic() + longest
    with set_by_signals(stop, (signal.SIGINT, signal.SIGTERM)):
        while (undecided := _undecided(store, since)) and time.monotonic() < end:
            if undecided != announced:
                terminal.print(
                    f"Waiting for the trader's decision about {counted(undecided, 'candidate')}, at most "
                    f"{longest:.0f} s. Ctrl-C skips this."
                )
                announced = undecided
            if stop.wait(min(_WAIT_SECONDS, longest)):
                return


def _undecided(store: "ObjectStore", since: datetime) -> int:
    """Return how many published candidates of minutes from a time on have no decision."""
    from pipeline_assets.resources.candidate_objects import LATE, read_stored
    from pipeline_assets.trading.decision_store import read_decisions

    undecided: set[str] = set()
    for day in {since.date(), (since + _WAITED_FOR).date()}:
        stored = read_stored(store, day)
        ids = stored.filter(~stored[LATE] & (stored["open_time"] >= since))["id"].to_list()
        undecided |= set(ids) - {each.candidate.id for each in read_decisions(store, day)}
    return len(undecided)


def _decided(settings: Settings, day: date) -> list[_Row]:
    from pipeline_assets.resources.candidate_objects import LATE, read_stored
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.trading.decision_store import read_decisions

    store = ObjectStore(settings.s3)
    stored = read_stored(store, day)
    decisions = read_decisions(store, day)
    return [
        ("candidates published", f"{int((~stored[LATE]).sum()):,}", ""),
        ("decisions", f"{len(decisions):,}", _verdicts(decisions)),
    ]


def _verdicts(decisions: "Sequence[Decision]") -> str:
    """Return how many were accepted, and how many were declined for which reason, the most frequent first."""
    reasons = Counter(each.reason for each in decisions if each.verdict == "decline")
    parts = []
    if accepted := len(decisions) - reasons.total():
        parts.append(f"{accepted:,} accepted")
    if reasons:
        named = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
        parts.append(f"{reasons.total():,} declined: {named}")
    return "; ".join(parts)


def _traded(gateway: "GatewayClient") -> list[_Row]:
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    orders = gateway.call(pb.ListOrdersRequest(), pb.ListOrdersResponse).orders
    fills = gateway.call(pb.ListFillsRequest(), pb.ListFillsResponse).fills
    held = gateway.call(pb.ListPositionsRequest(), pb.ListPositionsResponse).positions
    state = gateway.call(pb.GetStateRequest(), pb.GetStateResponse).state
    positions = [each for each in held if Decimal(each.quantity)]
    return [
        ("open orders", f"{len(orders):,}", _list(_order(each.order) for each in orders)),
        # The newest first: what the last minutes brought.
        (
            "fills",
            f"{len(fills):,}",
            _list(f"{_order(each)} at {each.price}" for each in reversed(fills)),
        ),
        (
            "positions",
            f"{len(positions):,}",
            _list(f"{each.quantity} {each.symbol}" for each in positions),
        ),
        (
            "day's result",
            f"{Decimal(state.day_result):,.2f}",
            f"of {Decimal(state.result):,.2f} in all, after {Decimal(state.fees):,.2f} of fees",
        ),
    ]


def _order(order: "pb.Order | pb.Fill") -> str:
    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb

    side = pb.Side.Name(order.side).removeprefix("SIDE_").lower()
    return f"{side} {order.quantity} {order.symbol}"


def _list(texts: Iterable[str]) -> str:
    found = list(texts)
    return ", ".join(found[:_NAMED]) + (" …" if len(found) > _NAMED else "")
