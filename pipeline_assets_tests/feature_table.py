"""The table of features in docs/features.md, as the catalogue has them."""

from datetime import timedelta

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.features import FEATURES


def feature_table() -> str:
    """Return the rows of the table, in the catalogue's order."""
    intervals = (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR)
    rows = []
    for each in FEATURES:
        spans = " | ".join(_duration(each.look_back(interval)) for interval in intervals)
        rows.append(f"| `{each.name}` | {each.unit} | {spans} | {each.description} |\n")
    return "".join(rows)


def _duration(span: timedelta) -> str:
    minutes = span // timedelta(minutes=1)
    if minutes < 60:
        return f"{minutes} min" if minutes else "0"
    return f"{minutes / 60:g} h"
