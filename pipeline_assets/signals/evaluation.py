"""One tick of the candidate sensor: from unfolded minutes to acknowledged candidates and newer states.
Which minutes are due is in due_minutes.py, how states are built again in warm_up.py, the report in tick.py,
its wording in tick_news.py.

The order is what keeps candidates: Kafka's acknowledgement, the copy on S3, the state. A state tells
that its minute is done, so a tick that dies anywhere before repeats the minute, and its candidates
carry the same ids. A candidate of a minute that is too old by then is not published again, only stored
as evaluated late: beside the copy of what was published, which counts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.listings import collected_now
from pipeline_assets.market.candidates import candidates_of, split_by_age
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.indicators import IndicatorSet, IndicatorStates
from pipeline_assets.market.strategies import configured_strategies, indicators_of
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.resources.candidate_objects import store_candidates
from pipeline_assets.resources.evaluation_record import note_evaluation
from pipeline_assets.resources.indicator_state import HeldState
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.signals.due_minutes import MINUTE, Cursor, Due, due_minutes, rounds
from pipeline_assets.signals.history import joined, read_history
from pipeline_assets.signals.tick import Services, TickReport
from pipeline_assets.signals.warm_up import WarmUp, build_states

if TYPE_CHECKING:
    import polars as pl

# Dagster ends a sensor's tick after 60 s. Nothing new is begun after this time, and the longest single
# piece of work, states of a batch of symbols from the lake, takes some seconds.
TICK_SECONDS = 30.0
# Batch size, in symbols, for reading minutes from the lake and for building states again.
BATCH = 50


def run_tick(
    services: Services,
    cursor: Cursor,
    seconds: float = TICK_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> TickReport:
    """Evaluate every closed minute that is due, of all symbols and in order, and publish what is found.

    Idempotent: a minute that is evaluated again, after a crash or beside another sensor, gives
    candidates of the same ids. Returns when nothing is due any more or the time is over; what is
    left is the next tick's.

    Raises:
        IndicatorStateError, SlotsError: Redis failed.
        BrokerError: Kafka did not acknowledge. No state was written of the minutes concerned.
        ObjectStoreError: the lake failed. Likewise.
        ExchangeUnreachableError: the exchange did not tell its time.
        StrategyError: the configured strategies are wrong.
    """
    universe = read_universe(services.store)
    if universe is None:
        return TickReport(cursor)
    tick = _Tick(services, universe, cursor, monotonic() + seconds, monotonic)
    may_be_more = True
    while may_be_more and monotonic() < tick.deadline:
        may_be_more = tick.step()
    return tick.finish()


@cache
def _strategies(configured: Any) -> tuple[tuple[Strategy, ...], IndicatorSet]:
    """Return the strategies of these settings and the indicators of all of them."""
    strategies = configured_strategies(configured)
    return strategies, indicators_of(strategies)


class _Tick:
    """The work of one tick, step by step; each step reads anew what the one before has written."""

    def __init__(
        self,
        services: Services,
        universe: Mapping[str, Any],
        cursor: Cursor,
        deadline: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.deadline = deadline
        self._services, self._monotonic, self._cursor = services, monotonic, cursor
        self._strategies, self._indicators = _strategies(services.settings.strategies)
        self._listed = collected_now(universe, services.settings.symbols)
        self._report = TickReport(cursor, symbols=len(self._listed))
        self._limit = services.settings.candidates.catch_up_minutes * MINUTE
        self._max_age = services.settings.candidates.publish_minutes * MINUTE
        self._positions: dict[str, datetime] = {}
        self._settled: dict[str, datetime] = {}
        # Each is tried once a tick: what failed is not tried again and again until the time is over.
        self._looked_for: set[str] = set()
        self._built: set[str] = set()

    def finish(self) -> TickReport:
        """Return what the tick did, once it is over."""
        self._report.cursor = self._cursor.at(self._positions)
        return self._report

    def step(self) -> bool:
        """Evaluate what is due, or else build states for some symbols; whether there may be more."""
        import polars as pl

        held, slots = self._services.states.read_due(list(self._listed))
        newest = dict(slots.group_by("symbol").agg(pl.col("open_time").max()).iter_rows())
        self._report.empty = not newest and all(each.open_time is None for each in held.values())
        self._place(held, newest)
        states, useless = self._usable(held, newest)
        due = self._due(states, slots)
        if due.candles.height:
            self._evaluate(states, due, held)
            return True
        return self._build(useless, held, slots, newest)

    def _place(self, held: Mapping[str, HeldState], newest: Mapping[str, datetime]) -> None:
        """Note where every symbol stands: by Redis, else by the cursor, else before the newest minute."""
        possible = self._possible_positions(held, newest)
        for symbol, each in held.items():
            position = each.open_time or possible.get(symbol)
            if each.stale and each.changed is not None:
                # The changed minute is evaluated again: it may be one that was passed over.
                position = each.changed - MINUTE
            if position is None and newest:
                position = max(newest.values()) - MINUTE
            if position is not None:
                self._positions[symbol] = position

    def _possible_positions(
        self, held: Mapping[str, HeldState], newest: Mapping[str, datetime]
    ) -> dict[str, datetime]:
        """Return the cursor's positions of symbols without a state, but none that is still to come.

        While a clock was wrong, minutes far in the future may have been evaluated. Redis forgets
        them with the next candle (write_slots.lua), and a cursor that did not would have the symbols
        wait for that future. The exchange is asked for its time only where the slots are behind.
        """
        positions = {
            symbol: position
            for symbol, each in held.items()
            if each.open_time is None and (position := self._cursor.of(symbol)) is not None
        }
        if any(position > newest.get(symbol, position) for symbol, position in positions.items()):
            now = self._services.exchange.server_time()
            positions = {symbol: at for symbol, at in positions.items() if at <= now}
        return positions

    def _usable(
        self, held: Mapping[str, HeldState], newest: Mapping[str, datetime]
    ) -> tuple[IndicatorStates, dict[str, str]]:
        """Return the states that newer candles can be folded into, and why the others' cannot be."""
        useless: dict[str, str] = {}
        values: dict[str, bytes] = {}
        for symbol in newest:
            each = held[symbol]
            if each.open_time is None:
                useless[symbol] = "there is no state"
            elif each.stale:
                useless[symbol] = "a candle changed after it was evaluated"
            elif newest[symbol] - each.open_time > self._limit:
                useless[symbol] = "too many minutes were missed"
            else:
                values[symbol] = each.state or b""
        states, undecodable = IndicatorStates.decode(self._indicators, values)
        return states, useless | undecodable

    def _due(self, states: IndicatorStates, slots: "pl.DataFrame") -> Due:
        """Return what may be folded now, after holes in the slots were looked for elsewhere."""
        evaluated = {symbol: self._positions[symbol] for symbol in states.symbols}
        due = due_minutes(slots, evaluated, self._settled)
        wanted = sorted(due.holes.keys() - self._looked_for)[:BATCH]
        if wanted and self._monotonic() < self.deadline:
            self._looked_for.update(wanted)
            holes = {symbol: due.holes[symbol] for symbol in wanted}
            found = read_history(
                self._services.store,
                self._services.exchange,
                holes,
                self._listed,
                slots,
                self.deadline,
            )
            self._report.problems |= found.failures
            self._settled |= {
                symbol: hole.end for symbol, hole in holes.items() if symbol not in found.failures
            }
            settled = found.candles.filter(~found.candles["symbol"].is_in(list(found.failures)))
            due = due_minutes(joined([slots, settled]), evaluated, self._settled)
        self._report.waiting = dict(due.waiting)
        return due

    def _evaluate(self, states: IndicatorStates, due: Due, held: Mapping[str, HeldState]) -> None:
        """Fold, evaluate, publish, keep, and only then write the states."""
        import polars as pl

        services, report = self._services, self._report
        created_at = services.exchange.server_time()
        asked = self._monotonic()
        evaluated = []
        for candles in rounds(due.candles):
            states, frame = states.advance(candles)
            evaluated.append(frame)
        self._note_strategies(due.candles)
        result = evaluate(self._strategies, pl.concat(evaluated), created_at)
        in_time, late = split_by_age(result.candidates, created_at, self._max_age)
        if in_time.height:
            services.topic.publish(candidates_of(in_time))
            store_candidates(services.store, in_time)
            report.candidates.append(in_time)
        if late.height:
            store_candidates(services.store, late, late=True)
            report.late.append(late)
        opened = due.candles["open_time"].max()
        newest = due.candles.group_by("symbol").agg(pl.col("open_time").max())
        encoded = states.encode()
        written = services.states.write(
            {symbol: (moment, encoded[symbol]) for symbol, moment in newest.iter_rows()}, held
        )
        self._positions |= {s: moment for s, moment in newest.iter_rows() if s in written}
        self._note_warming(states)
        report.failed_strategies |= result.failures
        report.candles += due.candles.height
        if isinstance(opened, datetime):
            taken = timedelta(seconds=self._monotonic() - asked)
            report.lag = created_at + taken - opened - MINUTE
            report.newest = max(opened, report.newest or opened)

    def _build(
        self,
        useless: Mapping[str, str],
        held: Mapping[str, HeldState],
        slots: "pl.DataFrame",
        newest: Mapping[str, datetime],
    ) -> bool:
        """Build states for some of the symbols that have none of use; whether there may be more."""
        wanted = sorted(useless.keys() - self._built)
        for symbol in wanted[BATCH:]:
            self._report.warming[symbol] = f"waits to be built from the lake: {useless[symbol]}"
        batch = wanted[:BATCH]
        if not batch or self._monotonic() >= self.deadline:
            self._report.warming |= {s: f"waits for the next tick: {useless[s]}" for s in batch}
            return False
        self._built.update(batch)
        services = self._services
        built = build_states(
            WarmUp(services.store, services.exchange, self._indicators, self._listed, self._limit),
            {symbol: self._positions[symbol] for symbol in batch},
            newest,
            slots,
            self.deadline,
        )
        written = services.states.write(built.states, held)
        self._positions |= {s: moment for s, (moment, _) in built.states.items() if s in written}
        self._report.skipped |= built.skipped
        self._report.problems |= built.failures
        for symbol in batch:
            self._report.warming.pop(symbol, None)
        self._report.warming |= built.short
        self._report.short |= built.short
        return True

    def _note_warming(self, states: IndicatorStates) -> None:
        needed = self._indicators.candles_needed
        for symbol, seen in states.candles_seen.items():
            self._report.warming.pop(symbol, None)
            self._report.short.pop(symbol, None)
            if seen < needed:
                message = f"{seen} of {needed} candles"
                self._report.warming[symbol] = self._report.short[symbol] = message

    def _note_strategies(self, candles: "pl.DataFrame") -> None:
        """Note on the lake from which minute on each strategy is evaluated, when it is a new one."""
        names = {f"{each.name} {each.version}" for each in self._strategies}
        first = candles["open_time"].min()
        if names != self._cursor.strategies and isinstance(first, datetime):
            note_evaluation(self._services.store, strategies=dict.fromkeys(names, first))
            self._cursor = replace(self._cursor, strategies=frozenset(names))
