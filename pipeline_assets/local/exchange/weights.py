"""Request weight: what a call costs, what a minute allows, and when an address is banned.

Source of the numbers: Binance's "Kline/Candlestick Data" and "Limits" pages.
"""

from collections import Counter
from dataclasses import dataclass, field

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.intervals import MINUTE

LONGEST_BAN_SECONDS = 3 * 24 * 3600
MINUTES_REMEMBERED = 1440


def klines_weight(limit: int) -> int:
    """Return what a klines call with this `limit` costs."""
    if limit < 100:
        return 1
    if limit < 500:
        return 2
    return 5 if limit <= 1000 else 10


@dataclass
class WeightBudget:
    """One address' weight, spent by UTC minute of the exchange's clock, and what follows from overspending.

    Attributes:
        limit: weight a minute; 0 is no limit.
        ban_after: refused calls within one minute that are still forgiven; Binance names no number.
        ban_seconds: length of the first ban; each further one is twice as long, up to three days.
    """

    limit: int = 2400
    ban_after: int = 100
    ban_seconds: int = 120
    used: Counter[int] = field(default_factory=Counter)
    refused_by_minute: Counter[int] = field(default_factory=Counter)
    bans: int = 0
    banned_until_ms: int = 0

    def spend(self, weight: int, now_ms: int) -> int:
        """Count a call; return the weight used in its minute. Refused calls are counted too."""
        minute = now_ms // MINUTE
        self.used[minute] += weight
        if len(self.used) > MINUTES_REMEMBERED:
            self.used.pop(min(self.used))
            self.refused_by_minute.clear()
        return self.used[minute]

    def refusal(self, now_ms: int, address: str) -> errors.ApiError | None:
        """Return the error for the call just counted, or None."""
        if now_ms < self.banned_until_ms:
            return errors.banned(address, self.banned_until_ms, self.ban_wait(now_ms))
        minute = now_ms // MINUTE
        if not self.limit or self.used[minute] <= self.limit:
            return None
        self.refused_by_minute[minute] += 1
        if self.refused_by_minute[minute] > self.ban_after:
            self.ban(now_ms, min(self.ban_seconds << min(self.bans, 16), LONGEST_BAN_SECONDS))
            return errors.banned(address, self.banned_until_ms, self.ban_wait(now_ms))
        return errors.too_many_requests(address, self.limit, seconds_to_next_minute(now_ms))

    def ban(self, now_ms: int, seconds: int) -> None:
        """Refuse everything for `seconds` of the exchange's clock."""
        self.bans += 1
        self.banned_until_ms = now_ms + seconds * 1000

    def ban_wait(self, now_ms: int) -> int:
        """Whole seconds until the ban ends, at least 1."""
        return max(1, -(-(self.banned_until_ms - now_ms) // 1000))


class AddressBudgets:
    """A budget for each address from which requests come, all with the same limits."""

    def __init__(self, limits: WeightBudget) -> None:
        self.limit = limits.limit
        self._limits = limits
        self._budgets: dict[str, WeightBudget] = {}

    def of(self, address: str) -> WeightBudget:
        """Return the budget of an address."""
        if address not in self._budgets:
            limits = self._limits
            self._budgets[address] = WeightBudget(
                limits.limit, limits.ban_after, limits.ban_seconds
            )
        return self._budgets[address]

    def used(self) -> dict[str, dict[int, int]]:
        """Return the weight used, by address and minute."""
        return {address: dict(sorted(held.used.items())) for address, held in self._budgets.items()}

    def banned_until_ms(self) -> int:
        """Return when the last ban of any address ends; 0 if none was banned."""
        return max((held.banned_until_ms for held in self._budgets.values()), default=0)

    def forget(self) -> None:
        """Begin anew: nothing spent, no address banned."""
        self._budgets.clear()


def seconds_to_next_minute(now_ms: int) -> int:
    """Whole seconds until the weight counter starts anew, 1 to 60."""
    return -(-(MINUTE - now_ms % MINUTE) // 1000)
