"""The figures of a report and some of its tables, computed again with pandas from the Parquet objects of the
lake: no SQL, and nothing of the product. No tests here.
"""

import io
import json
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

Figures = dict[tuple[str, str], str]
Rows = list[tuple[str, ...]]
DAY = timedelta(days=1)
QUARTER, HOUR = timedelta(minutes=15), timedelta(hours=1)
NONE = "–"
HORIZONS = ("15m", "1h", "4h")


class RecomputedReport:
    """The figures and tables of a span."""

    def __init__(self, client: Any, bucket: str, start: datetime, end: datetime) -> None:
        self._client, self._bucket = client, bucket
        self.start, self.end = pd.Timestamp(start), pd.Timestamp(end)
        # The candles whose closes value positions: of 15m for a day, of 1h for longer spans.
        self.marked = ("15m", QUARTER)
        self.fills = self.table("fills/").astype(dict.fromkeys(("quantity", "price", "fee"), float))
        self.decisions = self.within(self.table("decisions/"))
        self.outcomes = self.within(self.table("candidate_outcomes/"))
        self.intents = self.within(self.table("intents/"))
        self.rates = self.within(self.table("funding/"), "funding_time")

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix, ascending."""
        listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        assert not listed["IsTruncated"]
        return [each["Key"] for each in listed["Contents"]]

    def body(self, key: str) -> bytes:
        body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body

    def table(self, prefix: str) -> pd.DataFrame:
        """Return the rows of all objects below a prefix."""
        frames = [pd.read_parquet(io.BytesIO(self.body(key))) for key in self.keys(prefix)]
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
        mean = f"{pairs[~np.eye(len(pairs), dtype=bool)].mean():.2f}"
        whole = len(hours) == (hours.index.max() - hours.index.min()) / HOUR + 1
        volume, bought = quarters["quote_volume"].sum(), quarters["taker_buy_quote_volume"].sum()
        return {
            ("market", "Median return"): f"{np.median(changes) * 100:+.2f} %",
            ("market", "Median volatility"): f"{np.median(volatility) * 100:.2f} %",
            ("market", "Quote volume"): f"{volume / 1e6:.2f} M USDT",
            ("market", "Bought by takers"): f"{bought / volume * 100:.2f} %",
            ("market", "Mean correlation"): mean if whole else NONE,
            ("market", "Median funding"): f"{self.paid().median() * 100:+.4f} %",
        }

    def paid(self) -> pd.Series:
        """Return the funding that a long position of each symbol paid."""
        return self.rates.groupby("symbol")["funding_rate"].sum()

    def data(self) -> Figures:
        found = {}
        days = [pd.Timestamp(key[5:13], tz="UTC") for key in self.keys("gaps/")]
        judged = [each for each in days if self.start <= each < self.end]
        for interval, minutes in (("1m", 1), ("15m", 15), ("1h", 60)):
            stored = self.table(f"ohlcv/{interval}/")
            stored = stored[stored["open_time"].dt.floor("D").isin(judged)]
            expected = stored["symbol"].nunique() * len(judged) * 24 * 60 // minutes
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
        for name in HORIZONS:
            mean = self.outcomes[f"return_{name}"].mean()
            found["candidates", f"Mean return after {name}"] = f"{mean * 100:+.3f} %"
        return found

    def decided(self) -> Figures:
        judged = self.judged()
        gap = (judged["return_1h"] > 0).mean() - judged["probability"].mean()
        return {
            ("decisions", "Decisions"): f"{len(self.decisions):,}",
            ("decisions", "Accepted"): f"{(self.decisions['verdict'] == 'accept').sum():,}",
            ("decisions", "Orders sent"): f"{(self.intents['outcome'] == 'sent').sum():,}",
            ("decisions", "Calibration"): f"{gap * 100:+.1f} points",
        }

    def judged(self) -> pd.DataFrame:
        """Return the decisions with a probability, and their candidates' outcomes after one hour."""
        joined = self.decisions.merge(self.outcomes, on="candidate_id", suffixes=("", "_o"))
        return joined.dropna(subset=["probability", "return_1h"])

    def traded(self) -> Figures:
        own, curve = self.within(self.fills, "filled_at"), self.curve()
        signed = self.fills["quantity"].where(self.fills["side"] == "buy", -self.fills["quantity"])
        held = signed[self.fills["filled_at"] < self.end].groupby(self.fills["symbol"]).sum()
        orders = self.within(self.table("orders/"), "sent_at")
        limits = ("order_notional", "mode")
        return {
            ("trading", "Change of equity"): f"{curve[-1]:+,.2f} USDT",
            ("trading", "Result by the gateway"): f"{self.day_result():+,.2f} USDT",
            ("trading", "Profit of closed trades"): f"{self.closed():+,.2f} USDT",
            ("trading", "Fees"): f"{own['fee'].sum():,.2f} USDT",
            (
                "trading",
                "Largest drawdown",
            ): f"{(np.maximum.accumulate(curve) - curve).max():,.2f} USDT",
            ("trading", "Open at the end"): f"{(held.abs() > 1e-9).sum()}",
            ("trading", "Orders"): f"{len(orders):,}",
            ("trading", "Refused by risk limits"): f"{self.intents['reason'].isin(limits).sum():,}",
            ("trading", "Slippage of entries"): f"{self.slippage() * 100:+.3f} %",
        }

    def day_result(self) -> float:
        """Return the result of the last day, by the newest document of the gateway."""
        newest = json.loads(self.body(self.keys("accounts/")[-1]))
        return float(newest["summary"]["day_result"]) / 1e8

    def curve(self) -> np.ndarray:
        """Return the change of equity after each candle, fill by fill."""
        interval, step = self.marked
        candles = self.table(f"ohlcv/{interval}/")
        candles = candles[(candles["open_time"] >= self.start - step)].sort_values("open_time")
        prices = [
            (each.open_time + step, 1, each.symbol, each.close) for each in candles.itertuples()
        ]
        prices += [
            (each.filled_at, 0, each.symbol, each.price)
            for each in self.within(self.fills, "filled_at").itertuples()
        ]
        prices.sort(key=lambda each: each[:3])
        # Before its first price, a position is worth what it is then.
        known = {symbol: price for _, _, symbol, price in reversed(prices)}
        fills = list(self.fills.sort_values("filled_at").itertuples())
        equity, priced, filled = [], 0, 0
        cash, held = 0.0, dict.fromkeys(known, 0.0)
        for at in pd.date_range(self.start, self.end, freq=step):
            while priced < len(prices) and prices[priced][0] <= at:
                known[prices[priced][2]] = prices[priced][3]
                priced += 1
            while filled < len(fills) and fills[filled].filled_at < at:
                each = fills[filled]
                size = each.quantity if each.side == "buy" else -each.quantity
                held[each.symbol] += size
                cash -= size * each.price + each.fee
                filled += 1
            equity.append(cash + sum(size * known[symbol] for symbol, size in held.items()))
        return np.array(equity) - equity[0]

    def closed(self) -> float:
        """Return the profit of the trades whose own fills leave no position."""
        total = 0.0
        for decision, own in self.fills.groupby("decision_id"):
            size = own["quantity"].where(own["side"] == "buy", -own["quantity"])
            last = own["filled_at"].max()
            if decision and abs(size.sum()) < 1e-9 and self.start <= last < self.end:
                total -= (size * own["price"] + own["fee"]).sum()
        return total

    def slippage(self) -> float:
        """Return the mean slippage of entries, weighted by value."""
        joined = self.within(self.fills, "filled_at").merge(
            self.table("decisions/"), left_on="decision_id", right_on="id", suffixes=("", "_d")
        )
        long = joined["side_d"] == "long"
        entries = joined[joined["side"] == np.where(long, "buy", "sell")]
        value = entries["quantity"] * entries["price"]
        sign = np.where(entries["side_d"] == "long", 1, -1)
        return float(
            ((entries["price"] / entries["price_d"] - 1) * sign * value).sum() / value.sum()
        )

    def tables(self) -> dict[str, Rows]:
        """Return the first columns of some tables, by title."""
        return {
            "Largest funding": self.funding_rows(),
            "Outcomes of candidates": self.outcome_rows(),
            "Probability against outcome": self.calibration_rows(),
        }

    def funding_rows(self) -> Rows:
        """Return each symbol's funding and settlements, the largest first."""
        numbers = self.rates.groupby("symbol").size()
        paid = sorted(self.paid().items(), key=lambda each: (-abs(each[1]), each[0]))
        return [(name, f"{rate * 100:+.4f} %", f"{numbers[name]}") for name, rate in paid]

    def outcome_rows(self) -> Rows:
        """Return the known outcomes and the mean return of each strategy and horizon, and of all last."""
        groups = [*self.outcomes.groupby("strategy"), ("all strategies", self.outcomes)]
        found = []
        for name, own in groups:
            for horizon in HORIZONS:
                known = own[f"return_{horizon}"].dropna()
                found.append((name, horizon, f"{len(known):,}", f"{known.mean() * 100:+.3f} %"))
        return found

    def calibration_rows(self) -> Rows:
        """Return cases, mean probability and share that was right, by tenths of probability."""
        judged = self.judged()
        tenths = np.minimum(np.floor(judged["probability"] * 10), 9).astype(int)
        return [
            (
                f"{tenth * 10} to {tenth * 10 + 10} %",
                f"{len(own):,}",
                f"{own['probability'].mean() * 100:.1f} %",
                f"{(own['return_1h'] > 0).mean() * 100:.1f} %",
            )
            for tenth, own in judged.groupby(tenths)
        ]
