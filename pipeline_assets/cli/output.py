"""Printing shared by all commands: the console, a table, a JSON document, lines about problems. The output
of a single command is in that command's module.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(*, stderr: bool = False) -> "Console":
    """Return rich's console."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def table(title: str, caption: str | None = None) -> "Table":
    """Return a table without columns, in the one style of all commands."""
    from rich.box import SIMPLE
    from rich.table import Table

    return Table(box=SIMPLE, padding=(0, 1, 0, 0), title=title, caption=caption)


def print_json(document: Any) -> None:
    """Print a document for a program; days and times as `str` writes them."""
    click.echo(json.dumps(document, default=str, ensure_ascii=False))


def print_problems(problems: Iterable[str]) -> None:
    """Print what a person has to look at on standard error, one line each."""
    for problem in problems:
        click.secho(problem, fg="red", err=True)
