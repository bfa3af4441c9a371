"""The tables of docs/production.md, The cost of a month: made of the recorded counts and the prices.

`python -m pipeline_assets_tests.benchmarks.cost_table` writes them; a test says whether they are current.
"""

from pathlib import Path

from pipeline_assets_tests.benchmarks.cost_model import (
    SYMBOLS,
    counts_of,
    day_of,
    measured,
    prices,
    s3_dollars,
    warehouse_dollars,
    warehouse_minutes,
    warehouse_use,
)

PAGE = Path(__file__).parents[2] / "docs" / "production.md"
BEGIN, END = "<!-- cost: generated -->\n", "<!-- cost: end -->\n"
_UPLOADS, _LOADS = (1, 5, 15), (15, 60, 360, 1440)
_DEFAULT_LOAD = 15
# Each row: its name, whether features are merged and the inference service reads these.
_USES = (
    ("candles alone (`PIPELINE_FEATURES__ENABLED=false`)", False, False),
    ("and features", True, False),
    ("and the inference service", True, True),
)


def tables() -> str:
    """Return the tables as Markdown."""
    found, price = measured(), prices()
    lines = [
        f"Prices of {price['date']}: {price['s3']['what']} ({price['s3']['write_per_1000']} a thousand "
        f"writes, {price['s3']['read_per_1000']} a thousand reads); Snowflake {price['snowflake']['what']} "
        f"({price['snowflake']['credit']} a credit).",
        "",
        "| symbols | `ingest.upload_minutes` | S3 writes a day | S3 reads a day | MB written a day "
        "| weight a day | Kafka messages a day | S3 requests, dollars a month |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for symbols in SYMBOLS:
        for every in _UPLOADS:
            day = day_of(found, symbols, every, _DEFAULT_LOAD)
            counts = day.counts
            mark = "" if counts_of(found, "upload", symbols)[1] else "*"
            lines.append(
                f"| {symbols}{mark} | {every} | {counts['PUT'] + counts['LIST']:,} "
                f"| {counts['GET'] + counts['files_loaded']:,} | {counts['bytes_written'] // 10**6:,} "
                f"| {counts['weight']:,} | {counts['kafka_messages']:,} | {s3_dollars(day):.2f} |"
            )
    lines += [
        "",
        "| `ingest.load_minutes` | wakes a day | billed minutes a day | statements a day "
        "| credits, dollars a month |",
        "|---|---|---|---|---|",
    ]
    for load in _LOADS:
        day = day_of(found, _SHOWN, 1, load)
        lines.append(
            f"| {load} | {day.wakes} | {warehouse_minutes(day):.0f} | {day.counts['statements']:,} "
            f"| {warehouse_dollars(day):.2f} |"
        )
    lines += [
        "",
        f"| the warehouse, loads every {_DEFAULT_LOAD} minutes | billed minutes a day | statements a day "
        "| credits a day | dollars a month |",
        "|---|---|---|---|---|",
    ]
    statements = day_of(found, _SHOWN, 1, _DEFAULT_LOAD).counts["statements"]
    for name, features, inference in _USES:
        use = warehouse_use(_DEFAULT_LOAD, features=features, inference=inference)
        dollars = use.credits * price["snowflake"]["credit"] * 30
        lines.append(
            f"| {name} | {use.seconds / 60:.0f} | {statements + use.statements:,} | {use.credits:.2f} "
            f"| {dollars:.2f} |"
        )
    return "\n".join(lines) + "\n"


_SHOWN = 100


def page(text: str) -> str:
    """Return the page with current tables in place of those that it holds."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
