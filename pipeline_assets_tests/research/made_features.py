"""Made-up feature frames, each value telling its symbol and time. No tests here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.features import feature_names

LAG = timedelta(seconds=60)


def feature_frame(
    interval: Interval, symbols: Sequence[str], start: datetime, end: datetime, seed: int = 1
) -> pl.DataFrame:
    """Return the rows with start <= available_at < end; values are random, the first one counts minutes."""
    drawn, frames = np.random.default_rng(seed), []
    first = interval.floor(start) - 2 * interval.span
    opens = pl.datetime_range(first, end, interval.span, time_unit="us", eager=True, closed="left")
    for symbol in symbols:
        values = {name: drawn.normal(size=len(opens)) for name in feature_names()}
        values[feature_names()[0]] = (opens.to_physical().to_numpy() / 60e6).astype(float)
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * len(opens),
                    "open_time": opens,
                    "available_at": opens + interval.span + LAG,
                    **values,
                }
            )
        )
    inside = pl.col("available_at").is_between(start, end, closed="left")
    return pl.concat(frames).filter(inside)
