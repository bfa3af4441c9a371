"""The sinks of candles besides the lake, by the names that the registry of intervals uses.

Each is a function that makes the asset of one interval, called `candle_{name}_{interval}`; the asset fills a
sink as collection/sinks.py says.
"""

from collections.abc import Callable

from dagster import AssetsDefinition

from pipeline_assets.assets.slots import candle_slots
from pipeline_assets.assets.tables import candle_table
from pipeline_assets.market.intervals import Interval

SINKS: dict[str, Callable[[Interval], AssetsDefinition]] = {
    "slots": candle_slots,
    "table": candle_table,
}


def sink_assets(interval: Interval) -> list[AssetsDefinition]:
    """Build the assets of an interval's sinks.

    Raises:
        ValueError: the registry names a sink that there is none of.
    """
    unknown = [name for name in interval.definition.sinks if name not in SINKS]
    if unknown:
        raise ValueError(
            f"The registry of intervals stores {interval} in {', '.join(unknown)}, but the sinks are "
            f"{', '.join(SINKS)}: correct market/intervals.py, or add the sink to assets/sinks.py."
        )
    return [SINKS[name](interval) for name in interval.definition.sinks]
