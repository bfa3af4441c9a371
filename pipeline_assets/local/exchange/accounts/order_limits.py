"""The order-rate limits of an account: orders in ten seconds and in a minute, by the exchange's clock."""

from collections import Counter

from pipeline_assets.local.exchange.accounts.refusals import too_many_orders

LIMITS = (("10s", "10 SECOND", 10_000, 300), ("1m", "1 MINUTE", 60_000, 1200))
"""Name in the header, name in the error, span in ms, orders."""

SPANS_KEPT = 100


class OrderLimits:
    """New orders counted by account and span."""

    def __init__(self) -> None:
        self._made: Counter[tuple[str, str, int]] = Counter()

    def count(self, key: str, now_ms: int) -> dict[str, str]:
        """Count a new order of an account; return the headers of the reply."""
        if len(self._made) > SPANS_KEPT:
            newest = {name: now_ms // span for name, _, span, _ in LIMITS}
            self._made = Counter(
                {made: count for made, count in self._made.items() if made[2] == newest[made[1]]}
            )
        headers = {}
        for name, _, span, _ in LIMITS:
            place = key, name, now_ms // span
            self._made[place] += 1
            headers[f"x-mbx-order-count-{name}"] = str(self._made[place])
        return headers

    def refuse(self, key: str, now_ms: int) -> None:
        """Refuse the order just counted, if it is one too many.

        Raises:
            ApiError: -1015.
        """
        for name, text, span, limit in LIMITS:
            if self._made[key, name, now_ms // span] > limit:
                raise too_many_orders(limit, text, -(-(span - now_ms % span) // 1000))

    def forget(self) -> None:
        """Begin anew."""
        self._made.clear()
