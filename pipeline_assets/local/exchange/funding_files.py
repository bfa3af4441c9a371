"""A person's own Parquet files of funding rates, beside those of candles. Files are read, never written.

File names are `SYMBOL-fundingRate-anything.parquet`. Contracts without such a file have made-up rates.
"""

from pathlib import Path

from pipeline_assets.local.exchange.funding import USUAL_HOURS, Settlement
from pipeline_assets.local.exchange.intervals import HOUR
from pipeline_assets.local.exchange.parquet import FUNDING_FILE, milliseconds, plain

TIMES = ("funding_time", "calc_time", "fundingTime")
RATES = ("funding_rate", "last_funding_rate", "fundingRate")
MARKS = ("mark_price", "markPrice")
HOURS = ("funding_interval_hours", "interval_hours")


def own_rates(directory: Path) -> dict[str, list[Settlement]]:
    """Return the settlements of each symbol that has files, ascending, one a time.

    Raises:
        ValueError: a file cannot be read, or a column is absent.
    """
    found: dict[str, dict[int, Settlement]] = {}
    for path in sorted(directory.rglob("*.parquet")):
        match = FUNDING_FILE.match(path.name)
        if match:
            held = found.setdefault(match["symbol"], {})
            held.update((each.time_ms, each) for each in read_rates(path))
    return {symbol: [held[moment] for moment in sorted(held)] for symbol, held in found.items()}


def read_rates(path: Path) -> list[Settlement]:
    """Return the settlements of one file; an interval that the file does not state follows from its times.

    Raises:
        ValueError: a necessary column is absent, or a value is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as opened:
        table = opened.read()

    def column(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in table.column_names), None)

    time, rate, mark, hour = map(column, (TIMES, RATES, MARKS, HOURS))
    if time is None or rate is None:
        raise ValueError(f"{path.name}: expected the columns {TIMES[0]} and {RATES[0]}")
    times = milliseconds(table.select([time])).tolist()
    rates = plain(table.column(rate), pa.float64()).tolist()
    marks = table.column(mark).to_pylist() if mark else [None] * len(times)
    hours = table.column(hour).to_pylist() if hour else [None] * len(times)
    order = sorted(range(len(times)), key=times.__getitem__)
    made = []
    for place, row in enumerate(order):
        before = times[order[place - 1]] if place else None
        apart = USUAL_HOURS if before is None else round((times[row] - before) / HOUR)
        mark_price = marks[row]
        price = "" if mark_price is None else f"{float(mark_price):.8f}"
        made.append(Settlement(times[row], f"{rates[row]:.8f}", price, int(hours[row] or apart)))
    return made
