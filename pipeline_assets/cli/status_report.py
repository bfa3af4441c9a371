"""The running systems, their addresses, and how fresh each symbol is: every system is asked once, with a
deadline of its own. Options and printing are in status.py; collection/overview.py counts the candles.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline_assets.cli.filling import Filling, filling
from pipeline_assets.cli.questions import Answer, Question
from pipeline_assets.cli.unblock import as_document, describe
from pipeline_assets.collection.listings import left_out
from pipeline_assets.collection.overview import (
    LakeOverview,
    Overview,
    collected_symbols,
    combined,
    first_day,
    held_slots,
    lake_overview,
    table_rows,
)
from pipeline_assets.errors import PipelineError
from pipeline_assets.local.stack import StackStatus, stack_status
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.postgres_check import Database, databases
from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Block

T = TypeVar("T")
Asked = Question[T] | Answer[T]
Progress = Callable[[], None]
# Polars names an object that a finalize removed between listing and reading by an OSError.
_ERRORS = (PipelineError, OSError)
# The client libraries. Their import takes seconds, which must not count as a system's answer time.
_LIBRARIES = ("binance", "obstore", "polars", "redis", "snowflake.connector")
# The systems are printed at once; one that needs longer is waited for beside the other parts.
_AT_ONCE = 1.0
# By part the columns that are unknown without it.
SHOWS = {
    "exchange": "gaps are unknown, and days are by this machine's clock",
    "s3": "objects, rows, newest and gaps are unknown",
    "redis": "slots are unknown",
    "snowflake": "table rows are unknown",
}


@dataclass
class Status:
    """The findings of `status`.

    Attributes:
        stack: the systems, or None if they did not answer in time.
        now: the time from which days are counted, UTC.
        by_exchange: whether `now` is the exchange's clock, or else this machine's.
        first: the first UTC day of the counts.
        found: the stored candles, counted by symbol and interval.
        filling: the backfills and repairs under way; None if Dagster does not answer.
        block: the block on this address's requests to the exchange, if there is one.
        errors: by part, why the part is unknown; None for a part that answered.
        hung: whether a part is still waiting.
        left_out: the entries of exchangeInfo that cannot be read, each with its fault, by the last look.
        unread: the days that are not judged, because a newer release wrote their marks: why, in words.
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
    unread: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether every system is up, every part answered and every day is judged."""
        answered = not any(self.errors.values()) and not self.unread
        return self.stack is not None and self.stack.is_up and answered

    def to_dict(self) -> dict[str, Any]:
        """Return the status as values that JSON knows, but for times."""
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
            "unread": self.unread,
        }


@dataclass
class Look:
    """Ask every part once, each in a thread of its own, as soon as its inputs are known.

    The longest chain is the clock and then the lake. So all is over after twice `seconds`, plus the
    second for the systems' state, even if nothing answers.
    """

    settings: Settings
    days: int
    seconds: float
    machine_time: datetime
    print_systems: Callable[[StackStatus], None]
    errors: dict[str, str | None] = field(default_factory=dict)
    asked: list[Question[Any]] = field(default_factory=list)
    down: dict[str, str] = field(default_factory=dict)

    def take(self) -> Status:
        """Ask, wait, and put the answers together."""
        settings = self._hurried()
        # Twice as long: connections to several systems are tried one after the other.
        about_systems = self._ask(lambda _: stack_status(settings), 2 * self.seconds)
        early = about_systems.within(_AT_ONCE)
        stack = self._systems(about_systems) if early else None
        self.down = down_systems(stack)
        stores = databases(settings)
        for library in (*_LIBRARIES, *(["psycopg"] if stores and find_spec("psycopg") else [])):
            import_module(library)
        store = ObjectStore(settings.s3, PERSON_PATIENCE)
        blocked = self._unless_down("redis", lambda _: Exchange(settings).budget.block())
        # A warehouse that is suspended needs some seconds to resume.
        tables = self._unless_down("snowflake", lambda _: table_rows(settings), 2)
        odd = self._unless_down("s3", lambda _: left_out(read_universe(store)))
        asked_databases = {each.name: self._database(each) for each in stores}
        being_filled = self._ask(lambda _: filling(settings.dagster), self.seconds)
        block = blocked.answer()
        clock = self._clock(settings, block)
        symbols = self._symbols(store)
        slots = self._of_symbols("redis", symbols, lambda _, names: held_slots(settings, names))
        exchange_now = self._note("exchange", clock)
        now = exchange_now or self.machine_time
        first = first_day(self.days, now)
        unread: list[str] = []

        def overview(progress: Progress, names: list[str]) -> LakeOverview:
            return lake_overview(settings, store, names, first, now, progress, unread=unread)

        lake = self._of_symbols("s3", symbols, overview)
        held, stored = self._note("redis", slots), self._note("s3", lake)
        rows = self._note("snowflake", tables)
        for name, asked in asked_databases.items():
            self._note(name, asked)
        dagster_answers = self.errors.get("dagster-storage") is None
        if not early:
            stack = self._systems(about_systems)
        if symbols is None:
            symbols = sorted({symbol for table in (rows or {}).values() for symbol in table})
        some = any(each is not None for each in (held, stored, rows))
        found = combined(symbols, stored, held, rows, gaps_known=exchange_now is not None)
        return Status(
            stack=stack,
            now=now,
            by_exchange=exchange_now is not None,
            first=first,
            found=found if some else [],
            filling=being_filled.answer().value if dagster_answers else None,
            block=block.value,
            errors={name: self.errors[name] for name in ("systems", *unknown_without(settings))},
            hung=any(not each.over for each in self.asked),
            left_out=odd.answer().value or {},
            unread=list(unread),
        )

    def _hurried(self) -> Settings:
        """Let Redis fail with its own error before the deadline: it holds the exchange's weight budget."""
        # Its client repeats a time-out once, however little time it has.
        limit = min(self.settings.redis.timeout_seconds, 0.4 * self.seconds)
        limits = {"timeout_seconds": limit, "retry_seconds": 0}
        redis = self.settings.redis.model_copy(update=limits)
        return self.settings.model_copy(update={"redis": redis})

    def _ask(self, ask: Callable[[Progress], T], seconds: float) -> Question[T]:
        question = Question(ask, seconds, _ERRORS)
        self.asked.append(question)
        return question

    def _unless_down(self, part: str, ask: Callable[[Progress], T], times: int = 1) -> Asked[T]:
        """Ask, unless the system is known to be down: its client would go on trying for minutes."""
        if part in self.down:
            return Answer(None, f"not answering at {self.down[part]}")
        return self._ask(ask, times * self.seconds)

    def _database(self, database: Database) -> Asked[None]:
        # Two deadlines: the servers of one address are asked one after the other.
        return self._unless_down(database.name, lambda _: database.check(self.seconds), 2)

    def _of_symbols(
        self, part: str, symbols: list[str] | None, ask: Callable[[Progress, list[str]], T]
    ) -> Asked[T]:
        """Ask about the symbols, unless they are unknown because S3 did not answer."""
        if symbols is not None:
            return self._unless_down(part, lambda progress: ask(progress, symbols))
        unknown = "not asked: the symbols of `all` are on S3, which does not answer"
        return Answer(None, self.errors["s3"] if part == "s3" else unknown)

    def _clock(self, settings: Settings, block: "Answer[Block | None]") -> Asked[datetime]:
        """Ask the exchange's time, unless this address may not ask or cannot know whether it may."""
        if block.error is not None:
            why = "not asked: what may be asked is kept in Redis, which does not answer"
            return Answer(None, why)
        if block.value is not None:
            return Answer(None, f"not asked: {describe(block.value)}")
        return self._unless_down("exchange", lambda _: Exchange(settings).server_time())

    def _symbols(self, store: ObjectStore) -> list[str] | None:
        """Return the symbols to show. With `all` they are on S3: None if S3 does not answer."""
        if self.settings.symbols != "all":
            return list(self.settings.symbols)
        asked = self._unless_down("s3", lambda _: collected_symbols(self.settings, store))
        return self._note("s3", asked)

    def _systems(self, question: Question[StackStatus]) -> StackStatus | None:
        stack = self._note("systems", question)
        if stack is not None:
            self.print_systems(stack)
        return stack

    def _note(self, part: str, asked: Asked[T]) -> T | None:
        """Return the answer's value; its error is noted for the part."""
        answer = asked.answer()
        self.errors[part] = answer.error
        return answer.value


def unknown_without(settings: Settings) -> dict[str, str]:
    """Return by part what is unknown, or does not work, without it."""
    return SHOWS | {each.name: each.missed for each in databases(settings)}


def down_systems(stack: StackStatus | None) -> dict[str, str]:
    """Return the systems that are down, with their addresses."""
    services = stack.services if stack else ()
    return {each.name: each.address for each in services if not each.alive}
