"""The interval and its grid under the name that most modules import; the registry is intervals.py."""

from pipeline_assets.market.intervals import (
    DAY,
    EPOCH,
    Interval,
    from_milliseconds,
    to_milliseconds,
)

__all__ = ["DAY", "EPOCH", "Interval", "from_milliseconds", "to_milliseconds"]
