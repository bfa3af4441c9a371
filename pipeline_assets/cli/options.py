"""Options that several commands share, and the refusal of days that no command can serve. An option of a
single command is in that command's module.
"""

import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline_assets.errors import InputError
from pipeline_assets.local.data_directory import UMASK
from pipeline_assets.settings import SettingsError

Member = TypeVar("Member", bound=StrEnum)
Command = TypeVar("Command", bound=Callable[..., Any])


class DayType(click.DateTime):
    """A UTC day, written as 2026-11-28 or 20261128."""

    name = "day"

    def __init__(self) -> None:
        super().__init__(formats=["%Y-%m-%d", "%Y%m%d"])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the word for help, where click would print the formats of strftime."""
        del ctx
        return "DAY" if isinstance(param, click.Option) or param.required else "[DAY]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the day's midnight, or fail with an example of a day."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a day such as 2026-11-28.", param, ctx)


class Values(click.Choice[Member]):
    """A choice among an enumeration's values; the command gets the member."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """Return the member's value, where click would take its name."""
        del ctx
        return str(choice)


def day_option(name: str, text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Return an option that takes a UTC day; the command gets a date."""

    def read(_: click.Context, __: click.Parameter, value: datetime | None) -> date | None:
        return value.date() if value else None

    return click.option(name, type=DayType(), callback=read, required=required, help=text)


def symbols_option(text: str) -> Callable[[Command], Command]:
    """Return the option --symbols; the command gets a list, or None where it was not given."""

    def read(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
        if value is None:
            return None
        symbols = [part.strip() for part in value.split(",") if part.strip()]
        if not symbols:
            raise click.BadParameter("it names no symbol.")
        return symbols

    return click.option("--symbols", callback=read, help=text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def refuse_future(day: date | None, today: date) -> None:
    """Refuse a day that the exchange's clock has not come to.

    Raises:
        InputError: the day lies in the future.
    """
    if day is not None and day > today:
        raise InputError(f"{day} lies in the future: by the exchange's clock today is {today}.")


def check_range(start: date, end: date, today: date | None) -> None:
    """Refuse a range that no backfill can fill; `end` is excluded.

    `today` comes from the exchange's clock. Without it, days in the future are not refused.

    Raises:
        InputError: the range is empty or reversed, begins before the exchange or in the future.
    """
    from pipeline_assets.market.partition_keys import FIRST_DAY

    if end <= start:
        raise InputError(
            f"The range {start} to {end} holds no day: --end is excluded and must come after --start. "
            f"For one day: --start {start} --end {start + timedelta(days=1)}."
        )
    if start < FIRST_DAY:
        raise InputError(
            f"{start} is before the exchange opened: the first day is {FIRST_DAY}. Use --start {FIRST_DAY}."
        )
    if today is not None and end > today + timedelta(days=1):
        raise InputError(
            f"{end - timedelta(days=1)} lies in the future: by the exchange's clock today is {today}, so "
            f"--end can be {today + timedelta(days=1)} at most."
        )


def check_dagster_home() -> None:
    """Refuse a DAGSTER_HOME that Dagster would refuse once the exchange was asked.

    For commands that record runs there: files that they make are their owner's only.
    """
    os.umask(UMASK)
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named or "").expanduser()
    if named is not None and not (home.is_absolute() and home.is_dir()):
        raise SettingsError(
            f"DAGSTER_HOME: {named!r} is not the absolute path of a directory. Make it, or unset "
            "DAGSTER_HOME for the one under PIPELINE_DATA_DIR."
        )


def known_strategy(strategy: str) -> str:
    """Return the name of a strategy that exists, configured or not.

    Raises:
        InputError: there is no such strategy.
    """
    from pipeline_assets.market.strategies import strategy_names

    if strategy not in strategy_names():
        raise InputError(
            f"There is no strategy {strategy!r}; there are {', '.join(strategy_names())}."
        )
    return strategy
