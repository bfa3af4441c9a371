"""The inputs of models: each candidate with the features that were available when its candle closed. Training
and inference both use this module, so that they cannot differ. Features are computed in features/.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.candidate_model import SIDE, ModelInputError

if TYPE_CHECKING:
    import polars as pl

LOAD_LAG = timedelta(seconds=60)
_PREFIXES = {Interval.FIFTEEN_MINUTES: "f15_", Interval.ONE_HOUR: "f1h_"}
_LATE = timedelta(minutes=1)
_KEYS = ("id", "symbol", "open_time")


def input_columns() -> tuple[str, ...]:
    """Return the columns of a model's matrix, in their order."""
    from pipeline_assets.research.features import feature_names

    named = [f"{prefix}{name}" for prefix in _PREFIXES.values() for name in feature_names()]
    return (SIDE, *named)


def model_inputs(
    candidates: "pl.DataFrame",
    features: Mapping[Interval, "pl.DataFrame"],
    load_lag: timedelta = LOAD_LAG,
) -> "pl.DataFrame":
    """Return the candidates' `id`, `symbol`, `open_time` and the input columns, in the order given.

    A candidate has the newest row of features that is available at or before its candle's close. A row that
    is older than the interval, the load lag and a minute is not used: its columns are null.

    A row is available at its candle's close and `load_lag`, whatever its `available_at` says: that was
    computed with the setting of the time of its merge, and rows of another lag are not merged again.

    Args:
        candidates: a candidates frame of 1m candles.
        features: feature frames of 15m and 1h, with rows of any symbols and times.
        load_lag: the time from a candle's close until its features are available.

    Raises:
        ModelInputError: a frame is missing, or is without a feature.
    """
    import polars as pl

    close = pl.col("open_time") + Interval.ONE_MINUTE.span
    side = pl.col("side").replace_strict({"long": 1.0, "short": -1.0}, return_dtype=pl.Float64())
    found = candidates.select(*_KEYS, side.alias(SIDE), close.alias("_close")).with_row_index(
        "_row"
    )
    for interval, prefix in _PREFIXES.items():
        held = _named(features, interval, prefix, load_lag)
        oldest = interval.span + load_lag + _LATE
        found = found.sort("_close").join_asof(
            held,
            left_on="_close",
            right_on="_available",
            by="symbol",
            tolerance=oldest,
            check_sortedness=False,
        )
        found = found.drop("_available", strict=False)
    return found.sort("_row").select(*_KEYS, *input_columns())


def _named(
    features: Mapping[Interval, "pl.DataFrame"],
    interval: Interval,
    prefix: str,
    load_lag: timedelta,
) -> "pl.DataFrame":
    """Return the features of an interval under their input columns, in the order of availability."""
    import polars as pl

    from pipeline_assets.research.features import feature_names

    if interval not in features:
        raise ModelInputError(f"The features of {interval} were not given.")
    held = features[interval]
    absent = [name for name in ("open_time", *feature_names()) if name not in held.columns]
    if absent:
        raise ModelInputError(
            f"The features of {interval} are without {', '.join(absent)}: build the feature table again."
        )
    return held.select(
        "symbol",
        (pl.col("open_time") + interval.span + load_lag).alias("_available"),
        *(pl.col(name).cast(pl.Float64).alias(f"{prefix}{name}") for name in feature_names()),
    ).sort("_available")
