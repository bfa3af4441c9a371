"""The compiled step of position rules, fills and costs: (state, candle, signals) -> (state, fills). Backtests
call it for a month; the paper venue and the trader call it for one minute at a time, by position_keeper.py.

Everything is a whole number: prices in ticks, quantities in steps, money and rates in 1e-8, times in minutes
since 1970 (UTC). All compiled code and its constants are in this one file, long as it is: Numba's cache on
disk notices a change of this file only, and would run old code after a change elsewhere.

The order of a minute: funding at its open; then for each symbol its open (exits and entries that are due),
its range (liquidation, stop, target) and its close; then the signals of the close, in the order given.
"""

import os
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.private_apis import private_imports, require_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

UNIT = 100_000_000
MAX_NOTIONAL = 1_000_000_000 * UNIT
NEVER = 1 << 62

# fmt: off
# A candle's flags. A minute without PRESENT is a gap.
PRESENT, TRADABLE, SETTLED = 1, 2, 4
# config: one run.
DELAY, SLIPPAGE, MAX_POSITIONS, EQUITY_EVERY, SHOW_DECLINED, CONFIG_SIZE = range(6)
# rules: one row a strategy.
(
    SIDES, OPPOSITE, STOP, TARGET, TRAIL, TIME_LIMIT, COOL_DOWN, MOST, LEVERAGE, SIZING, SIZE,
    RULES_SIZE,
) = range(12)
IGNORE, EXIT, REVERSE = range(3)
BY_NOTIONAL, BY_EQUITY, BY_ATR = range(3)
# markets: one row a symbol. TICKS and STEPS are the multiples of the grid that orders keep to.
(
    VALUE, STEP_UNITS, INGEST_RUNS, STEPS, MIN_STEPS, MAX_STEPS, MIN_NOTIONAL, MAKER, TAKER,
    LIQUIDATION_FEE, MARKET_SIZE,
) = range(11)
# brackets: symbol, bracket; unused ones begin at NEVER.
FROM, RATE, AMOUNT, BRACKET_SIZE = range(4)
# positions: one row a symbol. QUANTITY is negative for a short, 0 for none. PENDING is an entry to
# come; REVERSED is one that waits for the exit of the position. LOWEST, HIGHEST and DUE are the
# prices between which, and the minute before which, nothing happens.
(
    QUANTITY, OWNER, ENTRY, ENTRY_MINUTE, ENTRY_SIGNAL, ENTRY_FEE, ENTRY_SLIPPAGE, POSITION_MARGIN,
    POSITION_FUNDING, STOP_AT, TARGET_AT, LIQUIDATED_AT, BEST, LOWEST, HIGHEST, DUE, LAST, EXIT_DUE,
    EXIT_SIGNAL, PENDING, PENDING_DUE, PENDING_SIGNAL, PENDING_MARGIN, REVERSED, REVERSED_SIGNAL,
    REVERSED_MARGIN, POSITION_SIZE,
) = range(27)
# account: one row. BUSY counts symbols with a position or a pending entry.
(
    CASH, MARGIN, BUSY, FEES, SLIPPED, FUNDED, BOTH_TOUCHED, RATES_MISSING, MARKS_FROM_OPEN,
    MARKS_FROM_CLOSE, EXITS_AFTER_GAP, MINUTE, ACCOUNT_SIZE,
) = range(13)
# signals and funding: one row each, in the order of time. MARK is 0 where there is none.
AT, SIGNAL_STRATEGY, SIGNAL_SYMBOL, SIDE, ATR, SIGNAL_SIZE = range(6)
_, FUNDING_SYMBOL, FUNDING_RATE, KNOWN, MARK, FUNDING_SIZE = range(6)
# Outcomes of a signal; counts: strategy, outcome.
(
    ACCEPTED, POSITION_HELD, SAME_SIDE, EXIT_PENDING, OPPOSITE_IGNORED, SIDE_NOT_ALLOWED,
    COOLING_DOWN, POSITION_LIMIT, BELOW_MINIMUM, INSUFFICIENT_MARGIN, NO_ATR, NOT_LISTED, GAP,
    OUTCOMES,
) = range(14)
# events: one row each.
(
    KIND, EVENT_MINUTE, EVENT_SYMBOL, EVENT_STRATEGY, EVENT_SIDE, EVENT_STEPS, EVENT_PRICE,
    EVENT_FEE, EVENT_SLIPPAGE, EVENT_PROFIT, EVENT_FUNDING, EVENT_REASON, EVENT_SIGNAL, EVENT_SIZE,
) = range(14)
OPENED, CLOSED, DECLINED = range(3)
# Why a position was closed.
(
    BY_SIGNAL, BY_STOP, BY_TRAILING_STOP, BY_TARGET, BY_TIME, BY_LIQUIDATION, BY_DELISTING,
) = range(7)
# fmt: on

# Numba's own variable. The gateway and the trader set it: the same functions run as plain Python, which takes
# milliseconds a minute, while Numba and its compiled code would take 80 MB and more in each of the two.
if os.environ.get("NUMBA_DISABLE_JIT") == "1":

    def _plain(function):
        return function

    _compiled = _rare = _inlined = _plain
else:
    from numba import njit

    # Nothing here allocates, so references are not counted: counting takes nine tenths of the time, even
    # where called functions are compiled into their callers. The option's underscore makes it Numba's own
    # business.
    with private_imports("numba", __name__):
        from numba.core.options import DefaultOptions
    require_names("numba", DefaultOptions, ["_nrt"], __name__)
    _compiled = njit(cache=True, error_model="numpy", nogil=True, _nrt=False)
    # Only `run` is called from Python; entry points of the others would take a sixth of the compilation.
    _internal = partial(
        njit, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
    )
    _rare = _internal()
    _inlined = _internal(forceinline=True)
# To Numba a literal is a type of its own: called with an outcome, a reason or a first 0 as such, each
# function and all that it calls would be compiled once for each of them, in twice the time.
_whole = np.int64


@_inlined
def scaled(value, rate):
    """Return value × rate / 1e8, rounded down, without overflow of the product."""
    whole = value // UNIT
    return whole * rate + (value - whole * UNIT) * rate // UNIT


@_inlined
def _slipped(price, side, config, market):
    """Return the price of a market order, moved against it and rounded against it to a tick."""
    tick = market[INGEST_RUNS]
    moved = price - side * scaled(price, -config[SLIPPAGE])
    if side > 0:
        return -(-moved // tick) * tick
    return max(moved // tick * tick, tick)


@_inlined
def _levels(paid, side, rule, market):
    """Return stop and target of a position that was opened at a price; 0 without one."""
    stop, target = 0, 0
    if rule[STOP]:
        stop = paid - side * max(scaled(paid, rule[STOP]), 1)
    if rule[TARGET]:
        wanted = paid * side + max(scaled(paid, rule[TARGET]), 1)
        target = max(-(-wanted // market[INGEST_RUNS]) * market[INGEST_RUNS] * side, 0)
    return stop, target


@_rare
def _liquidation_price(quantity, notional, margin, market, brackets):
    """Return the price at which an isolated margin is down to the maintenance margin; 0 if never."""
    place = 0
    while place + 1 < len(brackets) and brackets[place + 1, FROM] <= notional:
        place += 1
    rate, amount = brackets[place, RATE], brackets[place, AMOUNT]
    steps_value = abs(quantity) * market[VALUE]
    if quantity > 0:
        return max(-(-(notional - margin - amount) // max(scaled(steps_value, UNIT - rate), 1)), 0)
    return (notional + margin + amount) // max(scaled(steps_value, UNIT + rate), 1)


@_rare
def _watch(position, rule):
    """Set the prices between which, and the minute before which, nothing happens to a position."""
    stop, liquidated, target = (
        _stop_at(position, rule),
        position[LIQUIDATED_AT],
        position[TARGET_AT],
    )
    if position[QUANTITY] > 0:
        position[LOWEST] = max(stop, liquidated)
        position[HIGHEST] = target if target else NEVER
        if rule[TRAIL]:
            position[HIGHEST] = min(position[HIGHEST], position[BEST] + 1)
    else:
        position[HIGHEST] = min(stop if stop else NEVER, liquidated if liquidated else NEVER)
        position[LOWEST] = target
        if rule[TRAIL]:
            position[LOWEST] = max(target, position[BEST] - 1)
    position[DUE] = min(position[EXIT_DUE], position[PENDING_DUE])
    if rule[TIME_LIMIT]:
        position[DUE] = min(position[DUE], position[ENTRY_MINUTE] + rule[TIME_LIMIT])


@_inlined
def _nearer_stop(quantity, stop, best, rule):
    """Return the nearer one of stop and trailing stop; 0 without either."""
    if not rule[TRAIL]:
        return stop
    distance = max(scaled(best, rule[TRAIL]), 1)
    trail = best - distance if quantity > 0 else best + distance
    if not stop:
        return trail
    return max(stop, trail) if quantity > 0 else min(stop, trail)


@_inlined
def _stop_at(position, rule):
    """Return the stop of a position that is in effect; 0 without one."""
    return _nearer_stop(position[QUANTITY], position[STOP_AT], position[BEST], rule)


@_rare
def _open(minute, symbol, price, state, setup, events, count):
    """Fill the pending entry at a candle's open; returns the number of events."""
    positions, account = state[0], state[1]
    config, rules, markets, brackets = setup
    position = positions[symbol]
    quantity, owner, signal = position[PENDING], position[OWNER], position[PENDING_SIGNAL]
    position[PENDING], position[PENDING_DUE] = 0, NEVER
    rule, market = rules[owner], markets[symbol]
    side = 1 if quantity > 0 else -1
    steps = abs(quantity)
    paid = _slipped(price, side, config, market)
    notional = steps * paid * market[VALUE]
    fee, slippage = scaled(notional, market[TAKER]), steps * abs(paid - price) * market[VALUE]
    margin = -(-notional // rule[LEVERAGE])
    account[CASH] -= fee
    account[FEES] += fee
    account[SLIPPED] += slippage
    account[MARGIN] += margin - position[PENDING_MARGIN]
    position[QUANTITY], position[ENTRY] = quantity, paid
    position[ENTRY_MINUTE], position[ENTRY_SIGNAL] = minute, signal
    position[ENTRY_FEE], position[ENTRY_SLIPPAGE] = fee, slippage
    position[POSITION_MARGIN], position[POSITION_FUNDING] = margin, 0
    position[BEST] = paid
    position[STOP_AT], position[TARGET_AT] = _levels(paid, side, rule, market)
    position[LIQUIDATED_AT] = _liquidation_price(
        quantity, notional, margin, market, brackets[symbol]
    )
    _watch(position, rule)
    row = events[count]
    row[KIND], row[EVENT_MINUTE], row[EVENT_SYMBOL], row[EVENT_STRATEGY] = (
        OPENED,
        minute,
        symbol,
        owner,
    )
    row[EVENT_SIDE], row[EVENT_STEPS], row[EVENT_PRICE] = side, steps, paid
    row[EVENT_FEE], row[EVENT_SLIPPAGE], row[EVENT_SIGNAL] = fee, slippage, signal
    row[EVENT_PROFIT] = row[EVENT_FUNDING] = row[EVENT_REASON] = 0
    return count + 1


@_rare
def _close(minute, symbol, price, reason, state, setup, events, count):
    """Close a position at a price; returns the number of events. Targets and settlements do not slip."""
    positions, account, cooling, opened, _ = state
    config, rules, markets, _ = setup
    position, market = positions[symbol], markets[symbol]
    owner, quantity = position[OWNER], position[QUANTITY]
    side = 1 if quantity > 0 else -1
    steps = abs(quantity)
    rate = market[TAKER]
    paid = price
    if reason == BY_TARGET:
        rate = market[MAKER]
    elif reason == BY_LIQUIDATION:
        rate = market[LIQUIDATION_FEE]
    elif reason != BY_DELISTING:
        paid = _slipped(price, -side, config, market)
    profit = (paid - position[ENTRY]) * quantity * market[VALUE]
    fee = scaled(steps * paid * market[VALUE], rate)
    if reason == BY_LIQUIDATION:
        # An isolated position loses its margin at most: the exchange's insurance fund takes the rest.
        profit = max(profit, -position[POSITION_MARGIN])
        fee = min(fee, position[POSITION_MARGIN] + profit)
    slippage = steps * abs(paid - price) * market[VALUE]
    account[CASH] += profit - fee
    account[FEES] += fee
    account[SLIPPED] += slippage
    account[MARGIN] -= position[POSITION_MARGIN]
    row = events[count]
    row[KIND], row[EVENT_MINUTE], row[EVENT_SYMBOL], row[EVENT_STRATEGY] = (
        CLOSED,
        minute,
        symbol,
        owner,
    )
    row[EVENT_SIDE], row[EVENT_STEPS], row[EVENT_PRICE] = -side, steps, paid
    row[EVENT_FEE], row[EVENT_SLIPPAGE], row[EVENT_PROFIT] = fee, slippage, profit
    row[EVENT_FUNDING], row[EVENT_REASON] = position[POSITION_FUNDING], reason
    row[EVENT_SIGNAL] = position[EXIT_SIGNAL] if reason == BY_SIGNAL else -1
    cooling[owner, symbol] = minute + rules[owner, COOL_DOWN]
    position[QUANTITY], position[LOWEST], position[HIGHEST] = 0, 0, NEVER
    # A reversal whose first half a stop was quicker to do is an entry like any other.
    if position[REVERSED]:
        position[PENDING], position[PENDING_DUE] = position[REVERSED], position[EXIT_DUE]
        position[PENDING_SIGNAL] = position[REVERSED_SIGNAL]
        position[PENDING_MARGIN], position[REVERSED] = position[REVERSED_MARGIN], 0
    else:
        account[BUSY] -= 1
        opened[owner] -= 1
    position[EXIT_DUE] = NEVER
    position[DUE] = position[PENDING_DUE]
    return count + 1


@_rare
def _decline(minute, symbol, owner, side, outcome, setup, events, count):
    """Write down a signal that led to nothing, if asked for; returns the number of events."""
    if not setup[0][SHOW_DECLINED]:
        return count
    event = events[count]
    event[:] = 0
    event[KIND], event[EVENT_MINUTE], event[EVENT_SYMBOL] = DECLINED, minute, symbol
    event[EVENT_STRATEGY], event[EVENT_SIDE] = owner, 1 if side > 0 else -1
    event[EVENT_REASON] = outcome
    return count + 1


@_rare
def _drop_entries(minute, symbol, outcome, state, setup, events, count):
    """Drop entries that cannot be filled any more; returns the number of events."""
    positions, account, _, opened, counts = state
    position = positions[symbol]
    owner = position[OWNER]
    if position[PENDING]:
        count = _decline(minute, symbol, owner, position[PENDING], outcome, setup, events, count)
        counts[owner, outcome] += 1
        counts[owner, ACCEPTED] -= 1
        account[MARGIN] -= position[PENDING_MARGIN]
        account[BUSY] -= 1
        opened[owner] -= 1
        position[PENDING], position[PENDING_DUE], position[EXIT_DUE] = 0, NEVER, NEVER
        position[DUE] = NEVER
    if position[REVERSED]:
        count = _decline(minute, symbol, owner, position[REVERSED], outcome, setup, events, count)
        counts[owner, outcome] += 1
        account[MARGIN] -= position[REVERSED_MARGIN]
        position[REVERSED] = 0
    return count


@_inlined
def _at_open(minute, symbol, price, state, setup, events, count):
    """Fill what is due at a candle's open."""
    position = state[0][symbol]
    if position[QUANTITY]:
        rule = setup[1][position[OWNER]]
        if position[EXIT_DUE] <= minute:
            if position[EXIT_DUE] < minute:
                state[1][EXITS_AFTER_GAP] += 1
            count = _close(minute, symbol, price, _whole(BY_SIGNAL), state, setup, events, count)
        elif rule[TIME_LIMIT] and minute >= position[ENTRY_MINUTE] + rule[TIME_LIMIT]:
            count = _close(minute, symbol, price, _whole(BY_TIME), state, setup, events, count)
    if position[PENDING] and position[PENDING_DUE] <= minute:
        count = _open(minute, symbol, price, state, setup, events, count)
    return count


@_inlined
def _reached(price, high, low, side, at_stop, at_target, at_liquidation):
    """Return why and where a candle closes a position: (reason or -1, price, whether it reaches both).

    The worse is taken for true: a candle that reaches stop and target was at the stop first.
    """
    # Seen from a long: a short's prices are negated, so that lower is worse for both.
    worst, best = (low, high) if side > 0 else (-high, -low)
    stop = side * at_stop if at_stop else -NEVER
    target = side * at_target if at_target else NEVER
    liquidated = side * at_liquidation if at_liquidation else -NEVER
    reason, at, both = -1, 0, False
    if side * price <= liquidated:
        reason, at = BY_LIQUIDATION, price
    elif side * price <= stop:
        reason, at = BY_STOP, price
    elif side * price >= target:
        reason, at = BY_TARGET, price
    elif worst <= max(stop, liquidated):
        reason, at = (BY_STOP, at_stop) if stop >= liquidated else (BY_LIQUIDATION, at_liquidation)
        both = best >= target
    elif best >= target:
        reason, at = BY_TARGET, at_target
    return reason, at, both


@_rare
def _in_range(minute, symbol, candle, state, setup, events, count):
    """Close a position whose stop, target or liquidation price a candle reaches."""
    position = state[0][symbol]
    rule = setup[1][position[OWNER]]
    price, high, low, _ = candle
    side = 1 if position[QUANTITY] > 0 else -1
    at_stop = _stop_at(position, rule)
    reason, at, both = _reached(
        price, high, low, side, at_stop, position[TARGET_AT], position[LIQUIDATED_AT]
    )
    if both:
        state[1][BOTH_TOUCHED] += 1
    if reason == BY_STOP and rule[TRAIL] and at_stop != position[STOP_AT]:
        reason = BY_TRAILING_STOP
    if reason >= 0:
        return _close(minute, symbol, at, reason, state, setup, events, count)
    best = side * high if side > 0 else side * low
    if side * position[BEST] < best:
        position[BEST] = side * best
        _watch(position, rule)
    return count


@_inlined
def _payment(quantity, rate, mark, price, market):
    """Return what a funding rate pays a position, by the mark price, or by a price in ticks without one."""
    steps = abs(quantity)
    value = steps * price * market[VALUE]
    if mark:
        rest = mark % UNIT * market[STEP_UNITS] % UNIT
        value = steps * scaled(mark, market[STEP_UNITS]) + scaled(steps, rest)
    paid = scaled(value, rate)
    return -paid if quantity > 0 else paid


@_rare
def _pay_funding(row, price, state, setup):
    """Book a funding rate on a position. The open, or the last close, stands in for a mark price."""
    positions, account = state[0], state[1]
    position = positions[row[FUNDING_SYMBOL]]
    market = setup[2][row[FUNDING_SYMBOL]]
    if not position[QUANTITY]:
        return
    if not row[KNOWN]:
        account[RATES_MISSING] += 1
        return
    if not row[MARK]:
        if price:
            account[MARKS_FROM_OPEN] += 1
        else:
            account[MARKS_FROM_CLOSE] += 1
            price = position[LAST]
    paid = _payment(position[QUANTITY], row[FUNDING_RATE], row[MARK], price, market)
    account[CASH] += paid
    account[FUNDED] += paid
    position[POSITION_FUNDING] += paid


@_rare
def _equity(state, markets):
    """Return the equity and the value of all positions, at the last closes."""
    positions = state[0]
    equity, value = state[1][CASH], 0
    for symbol in range(len(positions)):
        position = positions[symbol]
        if position[QUANTITY]:
            step_value = markets[symbol, VALUE]
            equity += (position[LAST] - position[ENTRY]) * position[QUANTITY] * step_value
            value += abs(position[QUANTITY]) * position[LAST] * step_value
    return equity, value


@_rare
def _sized(owner, symbol, atr, freed, state, setup):
    """Return the steps and the margin of an entry at the last close, and the outcome of the signal."""
    account = state[1]
    rule, market = setup[1][owner], setup[2][symbol]
    step_value = state[0][symbol, LAST] * market[VALUE]
    if rule[SIZING] == BY_NOTIONAL:
        steps = rule[SIZE] // step_value
    else:
        budget = scaled(max(_equity(state, setup[2])[0], 0), rule[SIZE])
        if rule[SIZING] == BY_EQUITY:
            steps = budget // step_value
        elif atr <= 0:
            return 0, 0, NO_ATR
        else:
            steps = budget // max(scaled(atr, market[STEP_UNITS]), 1)
    steps = min(steps, MAX_NOTIONAL // step_value, market[MAX_STEPS])
    # Margin and entry fee must be free.
    free = min(max(account[CASH] - account[MARGIN] + freed, 0), MAX_NOTIONAL)
    cost = UNIT + rule[LEVERAGE] * market[TAKER]
    spendable = free // cost * rule[LEVERAGE] * UNIT + free % cost * rule[LEVERAGE] * UNIT // cost
    outcome = BELOW_MINIMUM
    if steps > spendable // step_value:
        steps, outcome = spendable // step_value, INSUFFICIENT_MARGIN
    steps = steps // market[STEPS] * market[STEPS]
    notional = steps * step_value
    if steps < max(market[MIN_STEPS], 1) or notional < market[MIN_NOTIONAL]:
        return 0, 0, outcome
    return steps, -(-notional // rule[LEVERAGE]), ACCEPTED


@_rare
def _held(minute, row, state, setup):
    """Return the outcome of a signal on a symbol that has a position or a pending entry."""
    position = state[0][row[SIGNAL_SYMBOL]]
    owner, side = row[SIGNAL_STRATEGY], row[SIDE]
    quantity = position[QUANTITY] if position[QUANTITY] else position[PENDING]
    if owner != position[OWNER]:
        return POSITION_HELD
    if side * quantity > 0:
        return SAME_SIDE
    rule = setup[1][owner]
    if position[EXIT_DUE] != NEVER:
        return EXIT_PENDING
    if rule[OPPOSITE] == IGNORE:
        return OPPOSITE_IGNORED
    position[EXIT_DUE], position[EXIT_SIGNAL] = minute + setup[0][DELAY], minute
    position[DUE] = min(position[DUE], position[EXIT_DUE])
    if rule[OPPOSITE] == REVERSE and (rule[SIDES] == 0 or rule[SIDES] == side):
        freed = position[POSITION_MARGIN] if position[QUANTITY] else position[PENDING_MARGIN]
        steps, margin, outcome = _sized(owner, row[SIGNAL_SYMBOL], row[ATR], freed, state, setup)
        if outcome != ACCEPTED:
            # The exit stands all the same.
            state[4][owner, outcome] += 1
            return ACCEPTED
        position[REVERSED], position[REVERSED_SIGNAL] = side * steps, minute
        position[REVERSED_MARGIN] = margin
        state[1][MARGIN] += margin
    return ACCEPTED


@_rare
def _decide(minute, row, price, flags, state, setup):
    """Return the outcome of a signal at a candle's close, having noted the entry or exit to come."""
    positions, account, cooling, opened, _ = state
    config, rules = setup[0], setup[1]
    owner, symbol, side = row[SIGNAL_STRATEGY], row[SIGNAL_SYMBOL], row[SIDE]
    position, rule = positions[symbol], rules[owner]
    position[LAST] = price
    if position[QUANTITY] or position[PENDING]:
        return _held(minute, row, state, setup)
    if not flags & TRADABLE or flags & SETTLED:
        return NOT_LISTED
    if rule[SIDES] and rule[SIDES] != side:
        return SIDE_NOT_ALLOWED
    if minute < cooling[owner, symbol]:
        return COOLING_DOWN
    if account[BUSY] >= config[MAX_POSITIONS] or opened[owner] >= rule[MOST]:
        return POSITION_LIMIT
    steps, margin, outcome = _sized(owner, symbol, row[ATR], _whole(0), state, setup)
    if outcome == ACCEPTED:
        position[PENDING], position[OWNER] = side * steps, owner
        position[PENDING_DUE], position[PENDING_SIGNAL] = minute + config[DELAY], minute
        position[PENDING_MARGIN], position[DUE] = margin, position[PENDING_DUE]
        account[MARGIN] += margin
        account[BUSY] += 1
        opened[owner] += 1
    return outcome


@_inlined
def _signal(minute, row, price, flag, state, setup, events, count):
    """Count a signal by its outcome; returns the number of events."""
    owner = row[SIGNAL_STRATEGY]
    outcome = _decide(minute, row, price, flag, state, setup)
    state[4][owner, outcome] += 1
    if outcome == ACCEPTED:
        return count
    return _decline(minute, row[SIGNAL_SYMBOL], owner, row[SIDE], outcome, setup, events, count)


@_inlined
def _quiet_until(i, limit, highs, lows, flags, position, first):
    """Return the first of some minutes in which something may happen to a position."""
    limit = max(min(limit, position[DUE] - first), i)
    lowest, highest = position[LOWEST], position[HIGHEST]
    if lowest <= 0 and highest == NEVER:
        while i < limit and flags[i] & (PRESENT | SETTLED) == PRESENT:
            i += 1
        return i
    while (
        i < limit
        and flags[i] & (PRESENT | SETTLED) == PRESENT
        and lows[i] > lowest
        and highs[i] < highest
    ):
        i += 1
    return i


@_inlined
def _minute(i, first, symbol, candles, flags, state, setup, events, count):
    """Move one symbol's position on by one minute; returns the number of events."""
    position, minute = state[0][symbol], first + i
    if not flags[symbol, i] & PRESENT:
        if i and flags[symbol, i - 1] & PRESENT:
            position[LAST] = candles[3][symbol, i - 1]
        return _drop_entries(minute, symbol, _whole(GAP), state, setup, events, count)
    price, high = candles[0][symbol, i], candles[1][symbol, i]
    low, close = candles[2][symbol, i], candles[3][symbol, i]
    if position[DUE] <= minute:
        count = _at_open(minute, symbol, price, state, setup, events, count)
    if position[QUANTITY] and (low <= position[LOWEST] or high >= position[HIGHEST]):
        candle = (price, high, low, close)
        count = _in_range(minute, symbol, candle, state, setup, events, count)
    position[LAST] = close
    if flags[symbol, i] & SETTLED:
        count = _drop_entries(minute, symbol, _whole(NOT_LISTED), state, setup, events, count)
        if position[QUANTITY]:
            count = _close(minute, symbol, close, _whole(BY_DELISTING), state, setup, events, count)
    return count


@_inlined
def _next_stop(i, first, highs, lows, flags, state, limit):
    """Return the next minute up to `limit` in which something may happen to any position."""
    positions = state[0]
    for symbol in range(len(positions)):
        position = positions[symbol]
        if position[QUANTITY] or position[PENDING]:
            limit = _quiet_until(
                i, limit, highs[symbol], lows[symbol], flags[symbol], position, first
            )
    return limit


@_compiled
def run(first, candles, flags, signals, funding, state, setup, equity, events):
    """Move the state on by some minutes, in place.

    Minutes in which nothing can happen are passed over: the result is that of each minute by itself.

    Args:
        first: the minute of the first column of candles.
        candles: open, high, low and close in ticks; each (symbols, minutes).
        flags: (symbols, minutes).
        signals: rows in the order of time, settings and symbol.
        funding: rows in the order of time and symbol.
        state: positions, account, cooling, opened, counts.
        setup: config, rules, markets, brackets.
        equity: takes equity and value of positions at the end of every EQUITY_EVERY minutes.
        events: takes the fills, and declined signals if asked for; large enough for all.

    Returns:
        The numbers of rows in `events` and in `equity`.
    """
    opens, highs, lows, closes = candles
    positions, account = state[0], state[1]
    every, minutes = setup[0][EQUITY_EVERY], opens.shape[1]
    count, samples, due, paid = _whole(0), _whole(0), _whole(0), _whole(0)
    sample = every - 1 - first % every
    i = _whole(0)
    while i < minutes:
        stop = min(minutes, signals[due, AT] - first) if due < len(signals) else minutes
        if account[BUSY] == 0:
            i = stop
            while sample < i:
                equity[samples, 0], equity[samples, 1] = account[CASH], 0
                samples += 1
                sample += every
        else:
            while paid < len(funding) and funding[paid, AT] < first + i:
                paid += 1
            if paid < len(funding):
                stop = min(stop, funding[paid, AT] - first)
            stop = min(stop, sample, minutes - 1)
            i = _next_stop(i, first, highs, lows, flags, state, stop)
        if i == minutes:
            break
        minute = first + i
        while paid < len(funding) and funding[paid, AT] <= minute:
            if funding[paid, AT] == minute:
                symbol = funding[paid, FUNDING_SYMBOL]
                # In a gap the last close stands in; quiet minutes before it were passed over.
                if i and flags[symbol, i - 1] & PRESENT:
                    positions[symbol, LAST] = closes[symbol, i - 1]
                _pay_funding(funding[paid], opens[symbol, i], state, setup)
            paid += 1
        for symbol in range(len(positions)):
            if positions[symbol, QUANTITY] or positions[symbol, PENDING]:
                count = _minute(i, first, symbol, candles, flags, state, setup, events, count)
        while due < len(signals) and signals[due, AT] <= minute:
            symbol = signals[due, SIGNAL_SYMBOL]
            price, flag = closes[symbol, i], flags[symbol, i]
            count = _signal(minute, signals[due], price, flag, state, setup, events, count)
            due += 1
        if i == sample:
            equity[samples, 0], equity[samples, 1] = _equity(state, setup[2])
            samples += 1
            sample += every
        i += 1
    account[MINUTE] = first + minutes - 1
    return count, samples


# The same formulas for callers of single orders: fill_formulas.py.


@_compiled
def market_price(price, side, config, market):
    """Return the price of a market order."""
    return _slipped(price, side, config, market)


@_compiled
def part_of(value, rate):
    """Return the part of a value that a rate in 1e-8 takes."""
    return scaled(value, rate)


@_compiled
def exit_levels(paid, side, rule, market):
    """Return stop and target of a position; 0 without one."""
    return _levels(paid, side, rule, market)


@_compiled
def stop_price(side, stop, best, rule):
    """Return the nearer one of stop and trailing stop; 0 without either."""
    return _nearer_stop(side, stop, best, rule)


@_compiled
def reached(price, high, low, side, at_stop, at_target, at_liquidation):
    """Return which exit a candle reaches, and where: (reason or -1, price). A level of 0 is none."""
    reason, at, _ = _reached(price, high, low, side, at_stop, at_target, at_liquidation)
    return reason, at


@_compiled
def funding_payment(quantity, rate, mark, price, market):
    """Return what a funding rate pays a position."""
    return _payment(quantity, rate, mark, price, market)


@_compiled
def liquidation_price(quantity, notional, margin, market, brackets):
    """Return the price at which a position is liquidated; 0 if never."""
    return _liquidation_price(quantity, notional, margin, market, brackets)
