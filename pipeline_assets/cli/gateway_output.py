"""The output of the command group `gateway`: state, positions and open orders, and a day's comparison.
Calling the gateway is in gateway.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.output import console, table

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
    from pipeline_assets.trading.day_reconciliation import DayReconciliation

Fields = dict[str, Any]
# In the interface's order: protobuf's JSON puts fields without a value last.
_SINGLE = (
    *(
        "account",
        "venue",
        "mode",
        "reason",
        "result",
        "day_result",
        "fees",
        "funding",
        "gross_exposure",
    ),
    *("open_positions", "open_orders", "unknown_orders", "sequence"),
)
# Amounts of the quote asset.
_AMOUNTS = frozenset({"result", "day_result", "fees", "funding", "gross_exposure"})
_POSITION = ("symbol", "quantity", "entry_price", "price", "open_profit")
_DIFFERENCE = ("what", "symbol", "id", "ledger", "exchange")
_ORDER = ("client_id", "symbol", "side", "kind", "quantity", "price", "filled", "status")


def state_fields(state: "pb.State") -> Fields:
    """Return the state for a program."""
    shown = _fields(state)
    return shown | {"mode": shown["mode"].removeprefix("MODE_")}


def position_fields(position: "pb.Position") -> Fields:
    """Return a position for a program."""
    return _fields(position)


def order_fields(held: "pb.OrderState") -> Fields:
    """Return an order and its state for a program, with the words that the HTTP door uses."""
    shown = _fields(held)
    order = shown["order"]
    return shown | {
        "status": _word(shown["status"]),
        "order": order | {each: _word(order[each]) for each in ("side", "kind")},
    }


def print_state(shown: Fields) -> None:
    """Print the state for a person, the limits last. Empty texts are left out."""
    for name in _SINGLE:
        if shown[name] != "":
            unit = " USDT" if name in _AMOUNTS else ""
            click.echo(f"{name.replace('_', ' '):<16}{shown[name]}{unit}")
    for symbol, reason in sorted(shown["halted_symbols"].items()):
        resume = f"`pipeline-assets gateway resume --symbol {symbol}` accepts its entries again"
        click.echo(f"halted {symbol:<9}{reason.removeprefix(f'{symbol}: ')}; {resume}")
    for name in ("foreign_orders", "troubles"):
        for value in shown[name]:
            click.echo(f"{name.replace('_', ' ').removesuffix('s'):<16}{value}")
    # A map of protobuf has no order.
    for name, value in sorted(shown["limits"].items()):
        click.echo(f"limit {name:<24}{value}")


def print_holdings(positions: Sequence[Fields], orders: Sequence[Fields]) -> None:
    """Print a table of the open positions and one of the open orders; nothing for an empty one."""
    _print_table("Positions", _POSITION, [each for each in positions if each["entry_price"]])
    _print_table("Open orders", _ORDER, [each | each["order"] for each in orders])


def print_reconciliation(result: "DayReconciliation") -> None:
    """Print the result of a day and a table of the differences."""
    finding = result.finding()
    click.secho(f"{result.day}  {finding.description}", fg=None if finding.passed else "red")
    rows = [vars(each) for each in result.differences]
    _print_table("Differences", _DIFFERENCE, rows)
    for name, amount in result.other_income.items():
        click.echo(f"other income {name:<24}{amount}")


def _print_table(title: str, names: Sequence[str], rows: Sequence[Fields]) -> None:
    if not rows:
        return
    shown = table(title)
    for name in names:
        # An id that is cut off cannot be given to any call.
        shown.add_column(
            "newest close" if (title, name) == ("Positions", "price") else _title(name),
            overflow="fold",
        )
    for row in rows:
        shown.add_row(*(str(row[name]) for name in names))
    console().print(shown, markup=False)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _word(name: str) -> str:
    """Return an enumeration's value in lower case, without the enumeration's name."""
    return name.partition("_")[2].lower()


def _fields(message: "Message") -> Fields:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
