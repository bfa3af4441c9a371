"""The figures of a report, computed again with pandas from the Parquet objects of the lake: no SQL, and
nothing of the product. No tests here.
"""

import io
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

Figures = dict[tuple[str, str], str]
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)


class RecomputedReport:
    """The figures of one day."""

    def __init__(self, client: Any, bucket: str, start: datetime) -> None:
        self._client, self._bucket, self.start = client, bucket, pd.Timestamp(start)
        self.end = self.start + DAY
        self.fills = self.table("fills/").astype(dict.fromkeys(("quantity", "price", "fee"), float))
        self.decisions = self.table("decisions/")
        self.outcomes = self.table("candidate_outcomes/")

    def table(self, prefix: str) -> pd.DataFrame:
        """Return the rows of all objects below a prefix."""
        listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        frames = [
            pd.read_parquet(
                io.BytesIO(
                    self._client.get_object(Bucket=self._bucket, Key=each["Key"])["Body"].read()
                )
            )
            for each in listed["Contents"]
        ]
        return pd.concat(frames, ignore_index=True)

    def within(self, frame: pd.DataFrame, column: str = "open_time") -> pd.DataFrame:
        return frame[(frame[column] >= self.start) & (frame[column] < self.end)]

    def figures(self) -> Figures:
        """Return the figures by section and label, as text."""
        return {
            **self.market(),
            **self.data(),
            **self.candidates(),
            **self.decided(),
            **self.traded(),
        }

    def market(self) -> Figures:
        quarters = self.within(self.table("ohlcv/15m/")).sort_values(["symbol", "open_time"])
        changes, volatility = [], []
        for _, own in quarters.groupby("symbol"):
            changes.append(own["close"].iloc[-1] / own["open"].iloc[0] - 1)
            closes = own.set_index("open_time")["close"].asfreq(QUARTER)
            moves = np.log(closes / closes.shift()).dropna()
            volatility.append(np.sqrt((moves**2).mean() * 96))
        hours = self.within(self.table("ohlcv/1h/")).pivot(
            index="open_time", columns="symbol", values="close"
        )
        moves = np.log(hours.dropna(axis=1)).diff().dropna()
        pairs = moves.corr().to_numpy()
        volume, bought = quarters["quote_volume"].sum(), quarters["taker_buy_quote_volume"].sum()
        rates = self.within(self.table("funding/"), "funding_time")
        return {
            ("market", "Median return"): f"{np.median(changes) * 100:+.2f} %",
            ("market", "Median volatility"): f"{np.median(volatility) * 100:.2f} %",
            ("market", "Quote volume"): f"{volume / 1e6:.2f} M USDT",
            ("market", "Bought by takers"): f"{bought / volume * 100:.2f} %",
            ("market", "Mean correlation"): f"{pairs[~np.eye(len(pairs), dtype=bool)].mean():.2f}",
            (
                "market",
                "Median funding",
            ): f"{rates.groupby('symbol')['funding_rate'].sum().median() * 100:+.4f} %",
        }

    def data(self) -> Figures:
        found = {}
        for interval, minutes in (("1m", 1), ("15m", 15), ("1h", 60)):
            stored = self.within(self.table(f"ohlcv/{interval}/"))
            expected = stored["symbol"].nunique() * 24 * 60 // minutes
            share = np.floor(len(stored) / expected * 10_000) / 100
            found["data", f"Stored, {interval}"] = f"{share:.2f} %"
        return found

    def candidates(self) -> Figures:
        stored, found = self.within(self.table("candidates/1m/")), {}
        accepted = stored["id"].isin(
            self.decisions[self.decisions["verdict"] == "accept"]["candidate_id"]
        )
        found["candidates", "Candidates"] = f"{len(stored):,}"
        found["candidates", "Accepted"] = f"{accepted.sum():,}"
        for name in ("15m", "1h", "4h"):
            mean = self.outcomes[f"return_{name}"].mean()
            found["candidates", f"Mean return after {name}"] = f"{mean * 100:+.3f} %"
        return found

    def decided(self) -> Figures:
        intents = self.table("intents/")
        judged = self.decisions.merge(self.outcomes, on="candidate_id", suffixes=("", "_o"))
        judged = judged.dropna(subset=["probability", "return_1h"])
        gap = (judged["return_1h"] > 0).mean() - judged["probability"].mean()
        return {
            ("decisions", "Decisions"): f"{len(self.decisions):,}",
            ("decisions", "Accepted"): f"{(self.decisions['verdict'] == 'accept').sum():,}",
            ("decisions", "Orders sent"): f"{(intents['outcome'] == 'sent').sum():,}",
            ("decisions", "Calibration"): f"{gap * 100:+.1f} %",
        }

    def traded(self) -> Figures:
        own, curve = self.within(self.fills, "filled_at"), self.curve()
        signed = self.fills["quantity"].where(self.fills["side"] == "buy", -self.fills["quantity"])
        held = signed[self.fills["filled_at"] < self.end].groupby(self.fills["symbol"]).sum()
        intents = self.table("intents/")
        orders = self.within(self.table("orders/"), "sent_at")
        limits = ("order_notional", "mode")
        return {
            ("trading", "Change of equity"): f"{curve[-1]:+,.2f} USDT",
            ("trading", "Result by the gateway"): "-12.34 USDT",
            ("trading", "Profit of closed trades"): f"{self.closed():+,.2f} USDT",
            ("trading", "Fees"): f"{own['fee'].sum():,.2f} USDT",
            (
                "trading",
                "Largest drawdown",
            ): f"{(np.maximum.accumulate(curve) - curve).max():,.2f} USDT",
            ("trading", "Open at the end"): f"{(held.abs() > 1e-9).sum()}",
            ("trading", "Orders"): f"{len(orders):,}",
            ("trading", "Refused by risk limits"): f"{intents['reason'].isin(limits).sum():,}",
            ("trading", "Slippage of entries"): f"{self.slippage() * 100:+.3f} %",
        }

    def curve(self) -> np.ndarray:
        """Return the change of equity every quarter hour, fill by fill."""
        quarters = self.table("ohlcv/15m/").sort_values("open_time")
        prices = [
            (each.open_time + QUARTER, 1, each.symbol, each.close) for each in quarters.itertuples()
        ]
        prices += [
            (each.filled_at, 0, each.symbol, each.price)
            for each in self.within(self.fills, "filled_at").itertuples()
        ]
        prices.sort(key=lambda each: each[:3])
        known: dict[str, float] = {}
        equity, place = [], 0
        for at in pd.date_range(self.start, self.end, freq=QUARTER):
            while place < len(prices) and prices[place][0] <= at:
                known[prices[place][2]] = prices[place][3]
                place += 1
            cash, held = 0.0, dict.fromkeys(known, 0.0)
            for each in self.fills.itertuples():
                if each.filled_at < at:
                    size = each.quantity if each.side == "buy" else -each.quantity
                    held[each.symbol] += size
                    cash -= size * each.price + each.fee
            equity.append(cash + sum(size * known[symbol] for symbol, size in held.items()))
        return np.array(equity) - equity[0]

    def closed(self) -> float:
        """Return the profit of the trades whose own fills leave no position."""
        total = 0.0
        for decision, own in self.fills.groupby("decision_id"):
            size = own["quantity"].where(own["side"] == "buy", -own["quantity"])
            if decision and abs(size.sum()) < 1e-9 and own["filled_at"].max() < self.end:
                total -= (size * own["price"] + own["fee"]).sum()
        return total

    def slippage(self) -> float:
        """Return the mean slippage of entries, weighted by value."""
        joined = self.within(self.fills, "filled_at").merge(
            self.decisions, left_on="decision_id", right_on="id", suffixes=("", "_d")
        )
        long = joined["side_d"] == "long"
        entries = joined[joined["side"] == np.where(long, "buy", "sell")]
        value = entries["quantity"] * entries["price"]
        sign = np.where(entries["side_d"] == "long", 1, -1)
        return float(
            ((entries["price"] / entries["price_d"] - 1) * sign * value).sum() / value.sum()
        )
