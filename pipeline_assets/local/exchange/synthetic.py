"""Synthetic minutes: a pure function of seed, symbol and open time, in whole numbers throughout.

Only integers are used, so that every machine and every NumPy makes the same bytes. How minutes
become other intervals and replies is in candles.py and market.py.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from pipeline_assets.local.exchange.candles import Block, Decimals
from pipeline_assets.local.exchange.contracts import Contract
from pipeline_assets.local.exchange.intervals import DAY, MINUTE

MINUTES = DAY // MINUTE
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1

# Spans in days, and how far each moves the level, in millionths: slow tides to daily moves.
TIDES = ((64, 220_000), (16, 110_000), (4, 60_000), (1, 30_000))

MINUTE_MOVE = 550
"""Standard deviation of one minute's move, in millionths of the price."""

NORMAL_DEVIATION = 37837
"""Standard deviation of the sum of four uniform 16-bit numbers."""

FINE = 12
"""Bits of a price below its unit, so that slow paths do not stick to the grid."""

HOURLY_ACTIVITY = (
    *(105, 95, 85, 80, 75, 75, 80, 95, 105, 100, 95, 90),
    *(105, 135, 155, 150, 140, 125, 115, 105, 100, 95, 90, 95),
)
"""How busy each hour of the day is, in percent: quiet at night, loud when New York opens."""

THIN_TURNOVER = 15_000_000
"""Below this turnover a day, some minutes pass without a trade."""

ACTIVITY: NDArray[np.int64] = np.repeat(np.array(HOURLY_ACTIVITY, np.int64), 60)
COUNTERS: NDArray[np.uint64] = np.arange(1, 3 * MINUTES + 1, dtype=np.uint64) * np.uint64(GOLDEN)
POSITIONS: NDArray[np.int64] = np.arange(MINUTES + 1, dtype=np.int64)


class SyntheticCandles:
    """A candle source for any contracts: `candles` of a day costs about a quarter millisecond."""

    def __init__(self, contracts: dict[str, Contract], seed: int = 1) -> None:
        self.contracts = contracts
        self.seed = seed

    def lifetime(self, symbol: str) -> tuple[int, int]:
        """From listing to delivery."""
        contract = self.contracts[symbol]
        return contract.onboard_ms, contract.delivery_ms

    def decimals(self, symbol: str, interval: str, day: int) -> Decimals:
        """Return the contract's precisions; quote volume has both together, as Binance's has."""
        contract = self.contracts[symbol]
        price, quantity = contract.price_precision, contract.quantity_precision
        return Decimals(price, quantity, price + quantity)

    def description(self) -> dict[str, object]:
        """Return the seed, which with the symbols says everything."""
        return {"source": "synthetic", "seed": self.seed}

    def candles(self, symbol: str, interval: str, day: int) -> Block | None:
        """Return the day's minutes between listing and delivery; other intervals are their aggregates."""
        if interval != "1m":
            return None
        contract = self.contracts[symbol]
        open_times = day + POSITIONS[:-1] * MINUTE
        whole = Block(open_times, day_values(contract, self.key(symbol), day // DAY))
        return whole.between(contract.onboard_ms, contract.delivery_ms)

    def key(self, symbol: str) -> int:
        """Return the 64 bits from which all of a symbol's randomness comes."""
        text = f"{self.seed}:{symbol}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def mix(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): 64 well-spread bits from any counter."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def mix_all(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mix` for an array."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def midnight_price(contract: Contract, key: int, day: int) -> int:
    """Return the price, in units and on the tick, with which the day (since the epoch) opens.

    Every tide is a line between random marks, so neighbouring days agree on their shared midnight.
    """
    level = contract.price_units
    for span, reach in TIDES:
        mark, along = divmod(day, span)
        before, after = (
            mix(key ^ mix((mark + step) * 64 + span)) % (2 * reach) - reach for step in (0, 1)
        )
        level += level * (before * (span - along) + after * along) // (span * 1_000_000)
    tick = contract.tick_units
    return max(1, level // tick) * tick


def day_values(contract: Contract, key: int, day: int) -> NDArray[np.int64]:
    """Return the nine rows of all 1,440 minutes of a day, shape (9, 1440)."""
    words = mix_all(COUNTERS + np.uint64(mix(key ^ mix(day)))).view(np.uint16)
    moves, ranges, trading = words.astype(np.int64).reshape(3, MINUTES, 4)
    first, last = (midnight_price(contract, key, day + step) for step in (0, 1))
    silent = silent_minutes(contract, trading[:, 0])
    closes = closing_prices(contract, moves.sum(axis=1) - 131070, (first, last), silent)

    values = np.empty((9, MINUTES), np.int64)
    values[0], values[3] = closes[:-1], closes[1:]
    tick = contract.tick_units
    reach = max(2, first * MINUTE_MOVE * 2 // 1_000_000 // tick)
    heads, feet = (ranges[:, :2] * ranges[:, 2:] >> 16) * reach >> 16, silent[:, None]
    tails = np.where(feet, 0, heads) * tick
    values[1] = np.maximum(values[0], values[3]) + tails[:, 0]
    values[2] = np.maximum(np.minimum(values[0], values[3]) - tails[:, 1], tick)
    values[4:] = trade_sums(contract, values[:4], trading, silent)
    return values


def silent_minutes(contract: Contract, draws: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which minutes of a thinly traded contract see no trade; never the day's last one.

    The last close must reach the next midnight's price, or the days would not join.
    """
    if contract.turnover >= THIN_TURNOVER:
        return np.zeros(MINUTES, np.bool_)
    silent = draws < 65536 * 3 // 100
    silent[-1] = False
    return silent


def closing_prices(
    contract: Contract,
    moves: NDArray[np.int64],
    midnights: tuple[int, int],
    silent: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the price at each of the day's 1,441 minute boundaries: a bridge between two midnights."""
    first, last = midnights
    deviation = (first << FINE) * MINUTE_MOVE // 1_000_000
    walk = np.zeros(MINUTES + 1, np.int64)
    np.cumsum(moves * deviation // NORMAL_DEVIATION, out=walk[1:])
    drift = ((last - first) << FINE) - int(walk[-1])
    fine = (first << FINE) + walk + POSITIONS * drift // MINUTES
    ticks = np.maximum((fine >> FINE) // contract.tick_units, 1)
    traded = POSITIONS.copy()
    traded[1:][silent] = 0
    closes: NDArray[np.int64] = ticks[np.maximum.accumulate(traded)] * contract.tick_units
    return closes


def trade_sums(
    contract: Contract,
    prices: NDArray[np.int64],
    draws: NDArray[np.int64],
    silent: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Volume, quote volume, trades, taker buy volume and quote volume, shape (5, 1440).

    Quote volumes are volumes at the mean of the four prices, so their average lies in the range.
    """
    scale = 10 ** (contract.price_precision + contract.quantity_precision)
    usual = max(8, contract.turnover * scale // MINUTES // contract.price_units)
    busy = max(2, contract.turnover // MINUTES // 900)
    burst = np.where(draws[:, 1] < 650, 32, 4)
    volume = usual * burst * (draws[:, 1] * draws[:, 2] >> 16) // 65536 * ACTIVITY // 100 + 1
    volume[silent] = 0
    trades = np.minimum(volume, volume * busy // usual * (draws[:, 3] + 32768) // 65536 + 1)
    trades[silent] = 0
    taker = volume * (19661 + (draws[:, 3] ^ 0x5A5A) * 26214 // 65536) // 65536
    mean = prices.sum(axis=0) // 4
    return np.stack((volume, volume * mean, trades, taker, taker * mean))
