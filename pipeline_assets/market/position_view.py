"""Orders that follow from the state of a PositionKeeper: entries, exits, and the best price for a trailing
stop; and what the account says of this state. Quantities and prices are whole numbers of 1e-8.
"""

from dataclasses import dataclass

from pipeline_assets.market.position_keeper import PositionKeeper


@dataclass(frozen=True)
class PlannedEntry:
    """An entry that a signal of the newest minute asks for; `sign` is 1 for a long, -1 for a short."""

    strategy: str
    symbol: str
    sign: int
    quantity: int


@dataclass(frozen=True)
class KeptPosition:
    """A position, or an entry whose open is still to come.

    Attributes:
        strategy: its owner.
        signal_minute: of the signal that opened it.
        best: the best price since the entry; 0 before the entry.
        exit_due: the minute at whose open the position is closed; None if no exit is due yet.
        exit_reason: `signal` or `time_limit`; empty without an exit.
    """

    strategy: str
    symbol: str
    signal_minute: int
    best: int
    exit_due: int | None
    exit_reason: str


def planned_entries(keeper: PositionKeeper) -> list[PlannedEntry]:
    """Return the entries that signals of the newest minute ask for, in the order of the symbols."""
    from pipeline_assets.market import position_step as step

    names, found = list(keeper.strategies), []
    rows = keeper.state.positions.tolist()
    for (symbol, (grid, _)), row in zip(keeper.symbols.items(), rows, strict=True):
        for quantity, signal in (
            (row[step.PENDING], row[step.PENDING_SIGNAL]),
            (row[step.REVERSED], row[step.REVERSED_SIGNAL]),
        ):
            if quantity and signal == keeper.minute:
                sign = 1 if quantity > 0 else -1
                owner = names[row[step.OWNER]]
                found.append(PlannedEntry(owner, symbol, sign, abs(quantity) * grid.step))
    return found


def kept_positions(keeper: PositionKeeper) -> dict[str, KeptPosition]:
    """Return positions and pending entries by symbol."""
    from pipeline_assets.market import position_step as step

    names, found = list(keeper.strategies), {}
    rows = keeper.state.positions.tolist()
    for (symbol, (grid, _)), row in zip(keeper.symbols.items(), rows, strict=True):
        held = bool(row[step.QUANTITY])
        if not held and not row[step.PENDING]:
            continue
        strategy = names[row[step.OWNER]]
        limit = keeper.strategies[strategy].time_limit
        entered = row[step.ENTRY_MINUTE if held else step.PENDING_DUE]
        by_time = entered + limit if limit else step.NEVER
        due = min(row[step.EXIT_DUE], by_time)
        reason = "signal" if row[step.EXIT_DUE] <= by_time else "time_limit"
        found[symbol] = KeptPosition(
            strategy,
            symbol,
            row[step.ENTRY_SIGNAL if held else step.PENDING_SIGNAL],
            row[step.BEST] * grid.tick if held else 0,
            None if due >= step.NEVER else due,
            "" if due >= step.NEVER else reason,
        )
    return found


def forget(keeper: PositionKeeper, symbol: str) -> None:
    """Remove position and pending entries of a symbol that the account does not have, without any profit."""
    from pipeline_assets.market import position_step as step

    state = keeper.state
    position = state.positions[list(keeper.symbols).index(symbol)]
    for present, margin in (
        (step.QUANTITY, step.POSITION_MARGIN),
        (step.PENDING, step.PENDING_MARGIN),
        (step.REVERSED, step.REVERSED_MARGIN),
    ):
        if position[present]:
            state.account[step.MARGIN] -= position[margin]
    if position[step.QUANTITY] or position[step.PENDING]:
        state.account[step.BUSY] -= 1
        state.opened[position[step.OWNER]] -= 1
    position[step.QUANTITY] = position[step.PENDING] = position[step.REVERSED] = 0
    position[step.LOWEST], position[step.HIGHEST] = 0, step.NEVER
    position[step.EXIT_DUE] = position[step.PENDING_DUE] = position[step.DUE] = step.NEVER


def forget_entry(keeper: PositionKeeper, symbol: str, signal_minute: int) -> None:
    """Remove what a signal opened or was to open, without any profit; a position that it ends stays."""
    from pipeline_assets.market import position_step as step

    state = keeper.state
    position = state.positions[list(keeper.symbols).index(symbol)]
    if position[step.REVERSED] and position[step.REVERSED_SIGNAL] == signal_minute:
        state.account[step.MARGIN] -= position[step.REVERSED_MARGIN]
        position[step.REVERSED] = 0
        return
    kept = kept_positions(keeper).get(symbol)
    if kept and kept.signal_minute == signal_minute:
        forget(keeper, symbol)


def book_funding(keeper: PositionKeeper, amount: int) -> None:
    """Add a funding payment that the account received, or paid where negative, to the cash."""
    from pipeline_assets.market import position_step as step

    keeper.state.account[step.CASH] += amount
    keeper.state.account[step.FUNDED] += amount
