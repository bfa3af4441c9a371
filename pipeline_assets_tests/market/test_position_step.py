"""The compiled step against the plain-Python reference, and against cases worked by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets.errors import InputError
from pipeline_assets.market import position_state
from pipeline_assets.market import position_step as step
from pipeline_assets.market.position_keeper import Bar, Fill, PositionKeeper, Signal
from pipeline_assets.market.position_rules import (
    FixedNotional,
    FractionOfEquity,
    PositionRules,
    VolatilityTarget,
)
from pipeline_assets.market.position_state import PositionStateError
from pipeline_assets.market.step_tables import (
    OUTCOMES,
    REASONS,
    FillModel,
    FundingRate,
    config_row,
    event_room,
    funding_table,
    grid_of,
    market_tables,
    new_state,
    rules_table,
    to_minute,
)
from pipeline_assets.market.trading_rules import Bracket, Fees, TradingRules, decimal, units
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market.plain_positions import Plain

# One worker compiles the step; the others find it in Numba's cache.
pytestmark = pytest.mark.xdist_group("compiled")

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
BTC = TradingRules(
    *(Decimal(text) for text in ("0.1", "0.001", "0.001", "20", "5")),
    brackets=(
        Bracket(Decimal(0), Decimal("0.01")),
        Bracket(Decimal(5000), Decimal("0.025"), Decimal(75)),
    ),
)
XRP = TradingRules(*(Decimal(text) for text in ("0.01", "1", "1", "100", "5")))


@dataclass
class Scene:
    """A made-up market of two symbols, and what two strategies say of it."""

    rules: list[PositionRules]
    model: FillModel
    capital: Decimal
    bars: list[list[tuple[Decimal, ...] | None]]
    signals: list[list[tuple[int, int, int, Decimal]]]
    funding: list[list[tuple[int, Decimal | None, Decimal | None]]]
    settled: list[set[int]]


def part(low: int, high: int) -> st.SearchStrategy[Decimal]:
    return st.integers(low, high).map(lambda value: Decimal(value) / 1000)


SIZINGS = st.one_of(
    st.integers(1, 9000).map(lambda value: FixedNotional(value=Decimal(value))),
    part(10, 2000).map(lambda value: FractionOfEquity(value=value)),
    part(1, 50).map(lambda value: VolatilityTarget(value=value)),
)


@st.composite
def rules(draw: st.DrawFn) -> PositionRules:
    none_or = lambda each: st.one_of(st.none(), each)  # noqa: E731
    values: dict[str, Any] = {
        "side": draw(st.sampled_from(["both", "both", "long", "short"])),
        "stop": draw(none_or(part(1, 30))),
        "target": draw(none_or(part(1, 30))),
        "trailing_stop": draw(none_or(part(1, 30))),
        "time_limit": draw(none_or(st.integers(1, 12))),
        "cool_down": draw(st.sampled_from([0, 0, 3])),
        "max_positions": draw(st.sampled_from([1, 2, 2])),
        "leverage": draw(st.sampled_from([1, 1, 10, 25])),
        "sizing": draw(SIZINGS),
    }
    ends = any(values[name] for name in ("stop", "target", "trailing_stop", "time_limit"))
    choices = ["exit", "reverse", "ignore"] if ends else ["exit", "reverse"]
    return PositionRules(opposite_signal=draw(st.sampled_from(choices)), **values)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Candles by a seed, so that an example is small: hypothesis chooses rules, seed and wildness."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    wild, length = draw(st.sampled_from([5, 20, 100])), draw(st.integers(5, 60))
    gaps, talk = draw(st.sampled_from([0.0, 0.1])), draw(st.sampled_from([0.1, 0.4]))
    units_of, ticks = [Decimal("0.1"), Decimal("0.01")], [300_000, 200]
    bars: list[list[tuple[Decimal, ...] | None]] = []
    signals, funding, settled = [], [], []
    for _ in range(length):
        row: list[tuple[Decimal, ...] | None] = []
        for symbol in range(2):
            scale = max(ticks[symbol] * wild // 10_000, 1)
            jump = int(chance.integers(-scale, scale + 1)) if chance.random() < 0.3 else 0
            opened = max(ticks[symbol] + jump, 20)
            closed = max(opened + int(chance.integers(-scale, scale + 1)), 20)
            high = max(opened, closed) + int(chance.integers(0, scale + 1))
            low = max(min(opened, closed) - int(chance.integers(0, scale + 1)), 10)
            ticks[symbol] = closed
            prices = tuple(value * units_of[symbol] for value in (opened, high, low, closed))
            row.append(None if chance.random() < gaps else prices)
        bars.append(row)
        present = [symbol for symbol in range(2) if row[symbol]]
        signals.append(
            [
                (
                    owner,
                    symbol,
                    int(chance.choice([-1, 1])),
                    Decimal(int(chance.integers(0, 50))) / 10,
                )
                for owner in range(2)
                for symbol in present
                if chance.random() < talk
            ]
        )
        funding.append([rate(chance, symbol) for symbol in range(2) if chance.random() < 0.1])
        settled.append({symbol for symbol in present if chance.random() < 0.01})
    model = FillModel(
        draw(st.integers(1, 3)),
        draw(st.sampled_from([Decimal(0), Decimal("0.0007")])),
        draw(st.sampled_from([1, 2])),
    )
    return Scene(
        [draw(rules()), draw(rules())],
        model,
        Decimal(draw(st.sampled_from([20, 1000, 10_000]))),
        bars,
        signals,
        funding,
        settled,
    )


def rate(chance: np.random.Generator, symbol: int) -> tuple[int, Decimal | None, Decimal | None]:
    """A funding rate of a symbol: sometimes missing, sometimes without a mark price."""
    value = Decimal(int(chance.integers(-5000, 5000))) / 10**6 if chance.random() < 0.8 else None
    around = (30_000, 2)[symbol]
    mark = Decimal(around) + Decimal(int(chance.integers(0, 10**8))) / 10**8
    return symbol, value, mark if chance.random() < 0.5 else None


MARKETS = [BTC, XRP]
GRIDS = [grid_of("BTC", [BTC]), grid_of("XRP", [XRP])]
FEES = Fees()


def tables(scene: Scene) -> tuple[Any, ...]:
    """The arguments of the step for a whole scene, except state, equity and events."""
    begin, length = to_minute(FIRST), len(scene.bars)
    prices = np.zeros((4, 2, length), np.int64)
    flags = np.zeros((2, length), np.uint8)
    signals, rates = [], {0: [], 1: []}
    for i, row in enumerate(scene.bars):
        for symbol, bar in enumerate(row):
            if bar:
                prices[:, symbol, i] = [units(price) // GRIDS[symbol].tick for price in bar]
                flags[symbol, i] = step.PRESENT | step.TRADABLE
            if symbol in scene.settled[i]:
                flags[symbol, i] |= step.SETTLED
        signals += [[begin + i, o, s, side, units(atr)] for o, s, side, atr in scene.signals[i]]
        for symbol, value, mark in scene.funding[i]:
            rates[symbol].append(FundingRate(FIRST + timedelta(minutes=i), value, mark))
    return prices, flags, np.array(signals, np.int64).reshape(-1, 5), funding_table(rates)


def run(scene: Scene, cuts: list[int]) -> tuple[list[tuple[Any, ...]], Any, list[int]]:
    """The fills of a scene run in pieces; the state in the end; the equity of every minute."""
    prices, flags, signals, funding = tables(scene)
    state = new_state(2, 2, scene.capital)
    setup = (
        config_row(scene.model, 1),
        rules_table(scene.rules),
        *market_tables(GRIDS, MARKETS, FEES),
    )
    begin, fills, equity = to_minute(FIRST), [], []
    for first, last in zip([0, *cuts], [*cuts, len(scene.bars)], strict=True):
        inside = [
            rows[(rows[:, 0] >= begin + first) & (rows[:, 0] < begin + last)]
            for rows in (signals, funding)
        ]
        curve = np.zeros((last - first + 2, 2), np.int64)
        events = event_room(len(inside[0]), 2)
        count, samples = step.run(
            begin + first,
            tuple(np.ascontiguousarray(each[:, first:last]) for each in prices),
            np.ascontiguousarray(flags[:, first:last]),
            *inside,
            state.arrays(),
            setup,
            curve,
            events,
        )
        fills += [fill(row, begin) for row in events[:count].tolist()]
        equity += curve[:samples, 0].tolist()
    return fills, state, equity


def fill(row: list[int], begin: int) -> tuple[Any, ...]:
    """An event as the reference writes it."""
    grid = GRIDS[row[step.EVENT_SYMBOL]]
    closed = row[step.KIND] == step.CLOSED
    found: tuple[Any, ...] = (
        row[step.EVENT_MINUTE] - begin,
        row[step.EVENT_SYMBOL],
        row[step.EVENT_STRATEGY],
        "exit" if closed else "entry",
        row[step.EVENT_SIDE],
        grid.quantity(row[step.EVENT_STEPS]),
        grid.price(row[step.EVENT_PRICE]),
        decimal(row[step.EVENT_FEE]),
        REASONS[row[step.EVENT_REASON]] if closed else "",
    )
    if closed:
        found += (decimal(row[step.EVENT_PROFIT]), decimal(row[step.EVENT_FUNDING]))
    return found


def reference(scene: Scene) -> tuple[Plain, list[Decimal]]:
    model = scene.model
    plain = Plain(
        scene.rules,
        MARKETS,
        FEES,
        model.fill_delay,
        model.slippage,
        model.max_positions,
        scene.capital,
    )
    equity = []
    for now, bars in enumerate(scene.bars):
        plain.minute(now, bars, scene.signals[now], scene.funding[now], scene.settled[now])
        equity.append(plain.equity())
    return plain, equity


def compare(scene: Scene, cuts: list[int]) -> Plain:
    plain, curve = reference(scene)
    fills, state, equity = run(scene, cuts)
    assert fills == plain.fills
    assert [decimal(each) for each in equity] == curve
    account = state.account.tolist()
    assert decimal(account[step.CASH]) == plain.cash
    assert account[step.BOTH_TOUCHED] == plain.both_touched
    assert account[step.RATES_MISSING] == plain.missing
    assert account[step.EXITS_AFTER_GAP] == plain.late_exits
    counts = Counter(
        {
            (owner, OUTCOMES[number]): count
            for owner, row in enumerate(state.counts.tolist())
            for number, count in enumerate(row)
            if count
        }
    )
    assert counts == Counter({key: count for key, count in plain.outcomes.items() if count})
    return plain


@cache
def uncompiled_step() -> ModuleType:
    """The step's file as a module of its own, as a process has it after `without_compilation`."""
    spec = spec_from_file_location("uncompiled_step", step.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        spec.loader.exec_module(module)
    assert not hasattr(module.run, "py_func"), "it was compiled"
    return module


def cuts_of(data: st.DataObject, scene: Scene) -> list[int]:
    return sorted(data.draw(st.sets(st.integers(1, len(scene.bars) - 1), max_size=3)))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.data())
def test_fills_equal_plain_reference(scene: Scene, data: st.DataObject) -> None:
    """Random candles with gaps, stops, targets, funding, settlement and liquidation, cut anywhere."""
    compare(scene, cuts_of(data, scene))


@pytest.mark.matrix
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.data())
def test_fills_equal_reference_at_length(scene: Scene, data: st.DataObject) -> None:
    """The same over many more scenes."""
    compare(scene, cuts_of(data, scene))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.data())
def test_uncompiled_step_equals_plain_reference(scene: Scene, data: st.DataObject) -> None:
    """The gateway and the trader run the same file without Numba."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "run", uncompiled_step().run)
        compare(scene, cuts_of(data, scene))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenes(), st.data())
def test_minutes_through_restarts_equal_run(scene: Scene, data: st.DataObject) -> None:
    """The door of the paper venue, minute by minute and restored from bytes, gives the same fills.

    In an outage no minute is given; all its funding rates come with the minute after.
    """
    scene.settled = [set() for _ in scene.settled]
    first = data.draw(st.integers(0, len(scene.bars) - 2))
    outage = range(first, data.draw(st.integers(first, len(scene.bars) - 1)))
    for i in outage:
        scene.bars[i], scene.signals[i] = [None, None], []
    restarts = set(cuts_of(data, scene))

    def keeper() -> PositionKeeper:
        named = {str(number): each for number, each in enumerate(scene.rules)}
        symbols = {grid.symbol: (grid, traded) for grid, traded in zip(GRIDS, MARKETS, strict=True)}
        return PositionKeeper(named, symbols, FEES, scene.model, scene.capital)

    names = [grid.symbol for grid in GRIDS]
    expected, _, _ = run(scene, [])
    venue, found = keeper(), []
    due: dict[str, list[FundingRate]] = {}
    for i, bars in enumerate(scene.bars):
        time = FIRST + timedelta(minutes=i)
        for symbol, *rest in scene.funding[i]:
            due.setdefault(names[symbol], []).append(FundingRate(time, *rest))
        if i in restarts:
            venue = keeper().restore(venue.encode())
        if i in outage and i:
            continue
        found += venue.advance(
            time,
            {name: Bar(*bar) for name, bar in zip(names, bars, strict=True) if bar},
            [
                Signal(str(owner), names[symbol], "long" if side > 0 else "short", atr)
                for owner, symbol, side, atr in scene.signals[i]
            ],
            due,
        )
        due = {}
    fills = [each for each in found if isinstance(each, Fill)]
    assert [
        (each.time, each.symbol, each.strategy, each.kind, each.price, each.quantity, each.fee)
        for each in fills
    ] == [
        (FIRST + timedelta(minutes=now), names[symbol], str(owner), kind, price, quantity, fee)
        for now, symbol, owner, kind, _, quantity, price, fee, *_ in expected
    ]
    declined = Counter(each.reason for each in found if not isinstance(each, Fill))
    plain, _ = reference(scene)
    reported = Counter[str]()
    for (_, outcome), count in plain.outcomes.items():
        if outcome != "accepted":
            reported[outcome] += count
    # A reversal that cannot be sized is counted, and its exit is accepted all the same.
    assert declined <= reported
    assert declined["gap"] == reported["gap"]
    assert venue.cash == plain.cash


def one_position(
    bars: list[tuple[str, ...] | None], side: int = 1, funding: Any = (), **given_rules: Any
) -> list[tuple[Any, ...]]:
    """The fills of a signal at the first candle of BTC, filled at the second."""
    prices = [bar and tuple(Decimal(each) for each in bar) for bar in bars]
    scene = Scene(
        [PositionRules(sizing=FixedNotional(value=Decimal(3000)), **given_rules)],
        FillModel(1, Decimal(0)),
        Decimal(10_000),
        [[bar, None] for bar in prices],
        [[(0, 0, side, Decimal(0))], *([] for _ in bars[1:])],
        [[each for at, *each in funding if at == i] for i in range(len(bars))],
        [set() for _ in bars],
    )
    scene.rules.append(PositionRules())
    compare(scene, [])
    return run(scene, [])[0]


FLAT = ("30000", "30000", "30000", "30000")


def test_open_beyond_stop_fills_there() -> None:
    """The stop lies at 29700; the candle opens at 29000."""
    fills = one_position([FLAT, FLAT, ("29000", "29100", "28900", "29000")], stop=Decimal("0.01"))
    assert fills[1][6] == Decimal(29000)
    assert fills[1][8] == "stop"


def test_stop_is_taken_before_target() -> None:
    """The candle reaches both 29700 and 30300: the order is unknown, and the worse one counts."""
    fills = one_position(
        [FLAT, FLAT, ("30000", "30400", "29600", "30000")],
        stop=Decimal("0.01"),
        target=Decimal("0.01"),
    )
    assert (fills[1][6], fills[1][8]) == (Decimal(29700), "stop")


def test_nothing_is_filled_across_gap() -> None:
    """The minute of the entry has no candle: the entry is dropped."""
    assert one_position([FLAT, None, FLAT, FLAT]) == []


def test_leveraged_long_loses_margin_only() -> None:
    """0.1 BTC at 30000 with leverage 10 has a margin of 300; the candle opens far below liquidation."""
    fills = one_position([FLAT, FLAT, ("20000", "20000", "20000", "20000")], leverage=10)
    profit, fee = fills[1][9], fills[1][7]
    assert fills[1][8] == "liquidation"
    assert profit - fee == Decimal(-300)


def test_funding_over_interval_change() -> None:
    """Worked by hand, to the cent: 0.1 BTC long over four rates, of which the last two are hourly.

    0.1 x 30000.00 x  0.0001   = 0.3000 paid
    0.1 x 30100.50 x  0.00025  = 0.752512… paid
    0.1 x 30000 (the open, for there is no mark price) x -0.0005 = 1.50 received
    0.1 x 29950.25 x  0.0002   = 0.599005 paid
    """
    rates = [
        (480, 0, Decimal("0.0001"), Decimal("30000.00")),
        (960, 0, Decimal("0.00025"), Decimal("30100.50")),
        (1020, 0, Decimal("-0.0005"), None),
        (1080, 0, Decimal("0.0002"), Decimal("29950.25")),
        (1140, 0, None, None),
    ]
    fills = one_position([FLAT] * 1200, funding=rates, time_limit=1190)
    expected = Decimal("-0.3") - Decimal("0.7525125") + Decimal("1.5") - Decimal("0.599005")
    assert fills[1][10] == expected
    assert round(fills[1][10], 2) == Decimal("-0.15")


@pytest.fixture
def keeper() -> PositionKeeper:
    """A keeper of one strategy and one symbol."""
    return PositionKeeper({"a": PositionRules()}, {"BTC": (GRIDS[0], BTC)})


def test_damaged_state_is_refused(keeper: PositionKeeper) -> None:
    """A changed, a cut and an empty state; one of zeros has a right checksum where it is empty."""
    encoded = keeper.encode()
    changed = bytearray(encoded)
    changed[40] ^= 1
    for damaged in (bytes(changed), encoded[:-9], encoded[:3], b"", bytes(4), bytes(len(encoded))):
        with pytest.raises(PositionStateError, match="damaged"):
            keeper.restore(damaged)
    other = PositionKeeper({"b": PositionRules()}, {"BTC": (GRIDS[0], BTC)})
    with pytest.raises(PositionStateError, match="other strategies"):
        other.restore(encoded)
    assert keeper.restore(encoded).encode() == encoded


def test_state_of_newer_version_is_named(
    keeper: PositionKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of another version says which one wrote the state."""
    monkeypatch.setattr(position_state, "STATE_VERSION", 2)
    newer = keeper.encode()
    monkeypatch.undo()
    with pytest.raises(PositionStateError, match="version 2, and this program reads version 1"):
        keeper.restore(newer)


def test_rates_not_due_are_refused(keeper: PositionKeeper) -> None:
    """A rate before the last minute, after this one, or of another symbol would be lost without a word."""
    bars = {"BTC": Bar(*map(Decimal, FLAT))}
    keeper.advance(FIRST, bars)
    for minutes, symbol in ((0, "BTC"), (11, "BTC"), (5, "ETH")):
        late = FundingRate(FIRST + timedelta(minutes=minutes), Decimal("0.0001"))
        with pytest.raises(InputError, match=symbol):
            keeper.advance(FIRST + timedelta(minutes=10), bars, [], {symbol: [late]})


def test_no_function_is_compiled_twice() -> None:
    """Each more takes a second of a person's first backtest. A process that loads the step compiles none."""
    compiled = [each for each in vars(step).values() if hasattr(each, "overloads")]
    assert len(compiled) > 20
    assert [each.__name__ for each in compiled if len(each.overloads) > 1] == []
