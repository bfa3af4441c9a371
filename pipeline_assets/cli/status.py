"""The command `status`: what runs, at which addresses, and how fresh each symbol is. The table of
systems, which `up` and `demo` print too, is in cli.py; what is counted is in overview.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline_assets.cli.block import as_document, current_block, describe
from pipeline_assets.cli.demo import exchange_time
from pipeline_assets.cli.filling import Filling, filling
from pipeline_assets.cli.questions import Answer, Question, leave
from pipeline_assets.collection.listings import left_out
from pipeline_assets.collection.overview import (
    Overview,
    collected_symbols,
    combined,
    first_day,
    held_slots,
    lake_overview,
    table_rows,
)
from pipeline_assets.local.stack import StackStatus, stack_status, systems
from pipeline_assets.local.supervisor import StackError
from pipeline_assets.resources.exchange_errors import ExchangeError
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.slots import SlotsError
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.weight_budget import WeightBudgetError
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.resources.weight_budget import Block

T = TypeVar("T")
_ERRORS = (
    ExchangeError,
    ObjectStoreError,
    # Polars names an object that a finalize removed between listing and reading so.
    OSError,
    SlotsError,
    StackError,
    WarehouseError,
    WeightBudgetError,
)
# The clients' own libraries. To import them takes seconds, which are no system's.
_LIBRARIES = ("binance", "dagster_snowflake", "obstore", "polars", "redis", "snowflake.connector")
# The systems are printed at once; one that needs longer is waited for beside the other parts.
_AT_ONCE = 1.0
_UNKNOWN = "?"
_ODD_SHOWN = 5
# By part the columns that are unknown without it.
_SHOWS = {
    "exchange": "gaps are unknown, and days are by this machine's clock",
    "s3": "objects, rows, newest and gaps are unknown",
    "redis": "slots are unknown",
    "snowflake": "table rows are unknown",
}


@dataclass
class Status:
    """What `status` found.

    Attributes:
        stack: the systems, or None if they could not be told in time.
        now: the time that the days are counted by, UTC.
        by_exchange: whether that is the exchange's clock, or this machine's.
        first: the first UTC day of the counts.
        found: what is stored, by symbol and interval.
        filling: what is being filled; None where Dagster does not answer.
        block: what keeps this address from asking the exchange, if anything does.
        errors: by part why it is unknown, None for a part that answered.
        hung: whether a part is still waiting.
        left_out: the entries of exchangeInfo that cannot be read, each with its fault, by the last look.
    """

    stack: StackStatus | None
    now: datetime
    by_exchange: bool
    first: date
    found: list[Overview]
    filling: Filling | None
    block: "Block | None"
    errors: dict[str, str | None]
    hung: bool
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether every system is up and every part answered."""
        return self.stack is not None and self.stack.is_up and not any(self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """The status as values that JSON knows, but for times."""
        return {
            "stack": asdict(self.stack) if self.stack else None,
            "at": self.now,
            "clock": "exchange" if self.by_exchange else "this machine",
            "days": {"first": self.first, "last": self.now.date()},
            "parts": {
                name: {"answered": error is None, "error": error}
                for name, error in self.errors.items()
            },
            "symbols": [asdict(each) for each in self.found],
            "filling": asdict(self.filling) if self.filling else None,
            "block": as_document(self.block),
            "left_out": dict(self.left_out),
        }


def show_status(
    settings: Settings,
    console: "Console",
    *,
    days: int,
    seconds: float,
    as_json: bool,
    machine_time: datetime,
    print_systems: Callable[[StackStatus], None],
) -> int:
    """Print the status and return the command's exit status; ends the process if a part hangs.

    Args:
        settings: the settings.
        console: where tables go.
        days: how many UTC days to count, today included.
        seconds: how long each part may take to answer.
        as_json: print one JSON document instead of tables.
        machine_time: this machine's time, UTC, for when the exchange does not answer.
        print_systems: prints the table of systems.
    """
    shown: Callable[[StackStatus], None] = (lambda _: None) if as_json else print_systems
    status = _Look(settings, days, seconds, machine_time, shown).take()
    if as_json:
        click.echo(json.dumps(status.to_dict(), default=str, ensure_ascii=False))
    else:
        _print_found(console, status)
    for line in _complaints(settings, status):
        click.secho(line, fg="red", err=True)
    code = 0 if status.well else 1
    if status.hung:
        leave(code)
    return code


@dataclass
class _Look:
    """One look at everything: each part is asked in a thread of its own, as soon as it can be.

    The longest chain is the clock and then the lake, so all is over after twice `seconds`, and the
    second that the systems are waited for, even if nothing answers.
    """

    settings: Settings
    days: int
    seconds: float
    machine_time: datetime
    print_systems: Callable[[StackStatus], None]
    errors: dict[str, str | None] = field(default_factory=dict)
    asked: list[Question[Any]] = field(default_factory=list)

    def take(self) -> Status:
        """Ask, wait, and put the answers together."""
        settings = self._hurried()
        # Twice as long: connections to several systems are tried one after the other.
        about_systems = self._ask(lambda _: stack_status(settings), 2 * self.seconds)
        early = about_systems.within(_AT_ONCE)
        stack = self._systems(about_systems) if early else None
        down = _down(stack)
        for library in _LIBRARIES:
            import_module(library)
        store = ObjectStore(settings.s3, PERSON_PATIENCE)
        blocked = self._unless_down("redis", down, lambda _: current_block(settings))
        # A warehouse that is suspended needs some seconds to resume.
        tables = self._unless_down("snowflake", down, lambda _: table_rows(settings), 2)
        odd = self._unless_down("s3", down, lambda _: left_out(read_universe(store)))
        being_filled = self._ask(lambda _: filling(settings.dagster), self.seconds)
        block = blocked.answer() if isinstance(blocked, Question) else blocked
        clock = self._clock(settings, down, block)
        symbols = self._symbols(store, down)
        slots = (
            self._unless_down("redis", down, lambda _: held_slots(settings, symbols))
            if symbols is not None
            else Answer[dict[str, int]](
                None, "not asked: the symbols of `all` are on S3, which does not answer"
            )
        )
        exchange_now = self._note("exchange", clock)
        now = exchange_now or self.machine_time
        first = first_day(self.days, now)
        counted = symbols or []
        lake = (
            self._unless_down(
                "s3",
                down,
                lambda progress: lake_overview(settings, store, counted, first, now, progress),
            )
            if symbols is not None
            else Answer[Any](None, self.errors["s3"])
        )
        held, stored, rows = (
            self._note("redis", slots),
            self._note("s3", lake),
            self._note("snowflake", tables),
        )
        if not early:
            stack = self._systems(about_systems)
        known = (
            counted
            if symbols is not None
            else sorted({s for t in (rows or {}).values() for s in t})
        )
        some = any(each is not None for each in (held, stored, rows))
        return Status(
            stack,
            now,
            exchange_now is not None,
            first,
            combined(
                known,
                stored,
                held,
                rows,
                gaps_known=exchange_now is not None,
            )
            if some
            else [],
            being_filled.answer().value,
            block.value,
            {name: self.errors[name] for name in ("systems", *_SHOWS)},
            any(not each.over for each in self.asked),
            (odd.answer().value if isinstance(odd, Question) else None) or {},
        )

    def _hurried(self) -> Settings:
        """Let Redis answer with its own words before the deadline: the exchange's budget is there."""
        # Its client repeats a time-out once, however little time it has.
        limit = min(self.settings.redis.timeout_seconds, 0.4 * self.seconds)
        limits = {"timeout_seconds": limit, "retry_seconds": 0}
        redis = self.settings.redis.model_copy(update=limits)
        return self.settings.model_copy(update={"redis": redis})

    def _ask(self, ask: Callable[[Callable[[], None]], T], seconds: float) -> Question[T]:
        question = Question(ask, seconds, _ERRORS)
        self.asked.append(question)
        return question

    def _unless_down(
        self,
        part: str,
        down: dict[str, str],
        ask: Callable[[Callable[[], None]], T],
        times: int = 1,
    ) -> "Question[T] | Answer[T]":
        """Ask, unless the system is known to be down: its client would go on trying for minutes."""
        if part in down:
            return Answer(None, f"not answering at {down[part]}")
        return self._ask(ask, times * self.seconds)

    def _clock(
        self, settings: Settings, down: dict[str, str], block: "Answer[Block | None]"
    ) -> Question[datetime] | Answer[datetime]:
        """Ask the exchange's time, unless this address may not ask or cannot know whether it may."""
        if block.error is not None:
            why = "not asked: what may be asked is kept in Redis, which does not answer"
            return Answer(None, why)
        if block.value is not None:
            return Answer(None, f"not asked: {describe(block.value)}")
        return self._unless_down("exchange", down, lambda _: exchange_time(settings))

    def _symbols(self, store: ObjectStore, down: dict[str, str]) -> list[str] | None:
        """The symbols to show; those of `all` are on S3, and None if S3 does not tell them."""
        if self.settings.symbols != "all":
            return list(self.settings.symbols)
        asked = self._unless_down("s3", down, lambda _: collected_symbols(self.settings, store))
        return self._note("s3", asked)

    def _systems(self, question: Question[StackStatus]) -> StackStatus | None:
        stack = self._note("systems", question)
        if stack is not None:
            self.print_systems(stack)
        return stack

    def _note(self, part: str, asked: "Question[T] | Answer[T]") -> T | None:
        """The answer's value; its error is noted for the part."""
        answer = asked.answer() if isinstance(asked, Question) else asked
        self.errors[part] = answer.error
        return answer.value


def _down(stack: StackStatus | None) -> dict[str, str]:
    """The systems that are down, with their addresses."""
    services = stack.services if stack else ()
    return {each.name: each.address for each in services if not each.alive}


def _complaints(settings: Settings, status: Status) -> Iterator[str]:
    """What does not answer, what is unknown thereby, and what to do."""
    if status.stack is not None:
        yield from _silent(settings, status.stack)
    if status.block is not None:
        yield (
            f"The exchange: {describe(status.block)}. Nothing is sent until then. If the exchange did not "
            "mean this address, `pipeline-assets unblock` lifts the block."
        )
    down = _down(status.stack)
    for part, error in status.errors.items():
        # Of a system that is down it is said above.
        if error is not None and part not in down:
            unknown = f" ({_SHOWS[part]})" if part in _SHOWS else ""
            yield f"{part}: {error}{unknown}"
    for name, why in list(status.left_out.items())[:_ODD_SHOWN]:
        yield f"The exchange's entry of {name} cannot be read, and is left out: {why}."
    if len(status.left_out) > _ODD_SHOWN:
        yield f"So are {len(status.left_out) - _ODD_SHOWN} more; --json names all of them."


def _silent(settings: Settings, stack: StackStatus) -> Iterator[str]:
    """What to do about the systems that are down: `up` starts this machine's only."""
    down = [each for each in stack.counted if not each.alive]
    embedded = ", ".join(each.name for each in down if each.embedded)
    if embedded and stack.running:
        yield f"Not up: {embedded}. The running stack restarts what fails; its log is in the data directory."
    elif embedded:
        yield f"Not answering: {embedded}. Start them with `pipeline-assets up`."
    named = {each.name: each.setting for each in systems(settings)}
    for each in down:
        if not each.embedded:
            yield (
                f"{each.name} at {each.address} is not answering: check that it runs and "
                f"{named[each.name]}."
            )


def _print_found(console: "Console", status: Status) -> None:
    if not status.found:
        if status.errors["s3"] is None:
            # With a list of symbols there is a row for each of them.
            console.print(
                "No symbol is known yet that PIPELINE_SYMBOLS=all means. The next ingest run or "
                "`pipeline-assets backfill` asks the exchange what it lists."
            )
        return
    print_overview(console, status.found, status.first, status.now, by_exchange=status.by_exchange)
    missing = any(each.missing for each in status.found)
    for line in filling_lines(status.filling, missing=missing):
        console.print(line, highlight=False)
    if missing:
        console.print(
            "`pipeline-assets gaps` tells why, and --repair fills them. Days before the first "
            "stored one are a backfill's: `pipeline-assets backfill`, or "
            f"`gaps --repair --start {status.first}`."
        )


def filling_lines(being_filled: "Filling | None", *, missing: bool) -> Iterator[str]:
    """What is being filled, and what becomes of the rest."""
    if being_filled is None:
        yield "Dagster's web server does not answer: what is being filled is not known."
        return
    for run in being_filled.runs:
        days = run.first if run.first == run.last else f"{run.first} to {run.last}"
        yield f"{'Running' if run.running else 'Queued'}: {run.job} of {days}."
    if missing and being_filled.next_request is None:
        yield "Nothing more is requested: the sensor gap_repair is off."
    elif missing:
        said = f" At its last look: {being_filled.said}" if being_filled.said else ""
        yield (
            f"The sensor gap_repair looks at {being_filled.next_request:%H:%M:%S} UTC for what to request "
            f"next, newest days first. The open day's gaps are the ingest runs'.{said}"
        )


def print_overview(
    console: "Console",
    found: Sequence[Overview],
    first: date,
    now: datetime,
    *,
    by_exchange: bool = True,
) -> None:
    """Print what is stored as a table, from the UTC day `first` to that of `now`."""
    from rich.box import SIMPLE
    from rich.table import Table

    clock = "the exchange's clock" if by_exchange else "this machine's clock"
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        title=f"Stored, days {first} to {now.astimezone(UTC):%Y-%m-%d}",
        caption=f"By {clock} at {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. Table rows: all days.",
    )
    for name in ("symbol", "interval"):
        table.add_column(name, no_wrap=True)
    for name in ("objects", "rows", "newest open", "slots", "table rows", "gaps"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        table.add_row(each.symbol, each.interval, *_cells(each))
    console.print(table)


def _cells(each: Overview) -> list[str]:
    """The numbers of one row; a question mark for what a part that did not answer would show."""
    colour = "red" if each.missing else "green"
    return [
        _count(each.objects),
        _count(each.rows),
        _UNKNOWN if each.objects is None else _short(each.newest),
        _count(each.slots) if each.interval.has_slots else "",
        _count(each.table_rows) if each.interval.has_table else "",
        _UNKNOWN if each.missing is None else f"[{colour}]{each.missing}[/]",
    ]


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _short(moment: datetime | None) -> str:
    return moment.strftime("%m-%d %H:%M") if moment else "none"
