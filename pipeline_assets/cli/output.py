"""Printing shared by all commands: the console, a table, rows with details, JSON, lines about problems. The
output of a single command is in that command's module.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_INDENT = " " * 4


def console(*, stderr: bool = False) -> "Console":
    """Return rich's console."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def table(title: str, caption: str | None = None) -> "Table":
    """Return a table without columns, in the one style of all commands."""
    from rich.box import SIMPLE
    from rich.table import Table

    return Table(box=SIMPLE, padding=(0, 1, 0, 0), title=title, caption=caption)


@dataclass(frozen=True)
class Row:
    """One entry of a list: its cells in a line, and details in a line below.

    Attributes:
        cells: one a column; outside text may stand here.
        style: rich's, of the line.
        details: wrapped at the terminal's width; empty for none.
    """

    cells: Sequence[str]
    style: str
    details: str = ""


def print_rows(console: "Console", columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print each row in one line under the columns' names, and its details below.

    As a column, long details are cut on a terminal of 80 columns.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.markup import escape

    cells = [[printable(cell) for cell in row.cells] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "  ".join(escape(cell) for cell in map(set_cell_size, row, widths)).rstrip()

    if rows:
        console.print(line(columns), style="bold", soft_wrap=True)
    for row, shown in zip(rows, cells, strict=True):
        console.print(line(shown), style=row.style, soft_wrap=True)
        for text in wrap(printable(row.details), console.width - len(_INDENT)):
            console.print(_INDENT + escape(text), style="dim", soft_wrap=True)


def print_json(document: Any) -> None:
    """Print a document for a program; days and times as `str` writes them."""
    click.echo(json.dumps(document, default=str, ensure_ascii=False))


def print_problems(problems: Iterable[str]) -> None:
    """Print what a person has to look at on standard error, one line each."""
    for problem in problems:
        click.secho(problem, fg="red", err=True)
