"""The sections of a report: their figures against pandas on the lake, sources, and days without data."""

import json
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace

import polars as pl
import pytest
import snowflake.connector

from pipeline_assets.collection.record_load import load_records, update_views
from pipeline_assets.market.aggregation import aggregate
from pipeline_assets.market.intervals import DAY as DAY_LONG
from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.daily_report.candidates import headline_of, measures
from pipeline_assets.research.daily_report.composing import most_frequent
from pipeline_assets.research.daily_report.data_quality import data_section
from pipeline_assets.research.daily_report.decisions import calibration_title
from pipeline_assets.research.daily_report.drift import drift_section
from pipeline_assets.research.daily_report.market import market_section
from pipeline_assets.research.daily_report.parts import (
    NO_VALUE,
    DailyReport,
    Edition,
    EditionKind,
    Figure,
    Section,
    Table,
)
from pipeline_assets.research.daily_report.readers import Readers, RunRecord
from pipeline_assets.research.daily_report.sections import make_sections
from pipeline_assets.research.daily_report.summary import DOCUMENT, ReportSummary
from pipeline_assets.research.daily_report.trading import trading_section
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.gap_objects import gap_schema, write_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.report_queries import ReportQueries
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.trading.record_objects import Kind
from pipeline_assets_tests.fixtures.report_day import START, STRATEGIES, ReportDay, made_minutes
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer
from pipeline_assets_tests.fixtures.trading_records import DAY, NOON, a_fill, put
from pipeline_assets_tests.research.daily_report.recomputed_report import RecomputedReport

EDITION = Edition.of("day", START.date())
LAGS = (4.0, 5.0, 6.0, 30.0)
# Two runs share a resumption of the warehouse, the third is alone: 80 s + 60 s and 65 s.
RUNS = (
    *(
        RunRecord("candle_slots_1m", START + timedelta(minutes=n), lag=lag)
        for n, lag in enumerate(LAGS)
    ),
    RunRecord("raw_candles_1m", START, weight=40),
    RunRecord("raw_candles_15m", START, weight=2),
    RunRecord("candle_table_15m", START + timedelta(seconds=10), warehouse=10),
    RunRecord("candle_table_1h", START + timedelta(seconds=30), warehouse=10),
    RunRecord("candle_table_15m", START + timedelta(minutes=15), warehouse=5),
)


@pytest.fixture(scope="module")
def replayed(s3_server: S3Server, snowflake_server: SnowflakeServer) -> SimpleNamespace:
    """A day of three symbols, the sections of its report, and another day of its week."""
    bucket = make_bucket(s3_server)
    store = ObjectStore(bucket.settings())
    settings = snowflake_server.settings(database="REPLAYED_DAY")
    warehouse = Warehouse(settings, bucket.settings())
    ReportDay(store, warehouse, every=120, start=START - timedelta(days=3)).write()
    ReportDay(store, warehouse).fill()
    sections = make_sections(Readers(ReportQueries(warehouse), store, runs=RUNS), EDITION)
    return SimpleNamespace(
        bucket=bucket,
        store=store,
        warehouse=warehouse,
        sections={each.key: each for each in sections},
    )


def figures_of(section: Section) -> dict[str, Figure]:
    return {each.label: each for each in section.figures}


def table_of(section: Section, title: str) -> Table:
    [found] = [each for each in section.tables if each.title == title]
    return found


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_document_equals_pandas_on_lake(replayed: SimpleNamespace, kind: EditionKind) -> None:
    """An independent calculation from Parquet gives the texts of the report's JSON: every figure but those of
    runs and of drift, and the tables of funding, outcomes and calibration.
    """
    bucket: S3Bucket = replayed.bucket
    edition = Edition.of(kind, START.date())
    sections = replayed.sections.values()
    if kind != "day":
        sections = make_sections(
            Readers(ReportQueries(replayed.warehouse), replayed.store), edition
        )
    report = DailyReport(edition, tuple(sections), edition.end)
    document = json.loads(DOCUMENT.dump_json(ReportSummary.of(report, "")))
    expected = RecomputedReport(bucket.client, bucket.name, edition.start, edition.end)
    figures, tables = expected.figures(), expected.tables()
    assert {
        (section["key"], each["label"]): each["value"]
        for section in document["sections"]
        for each in section["figures"]
        if section["key"] != "drift" and "Dagster" not in each["source"]["text"]
    } == figures
    shown = {
        each["title"]: each["rows"] for part in document["sections"] for each in part["tables"]
    }
    for title, rows in tables.items():
        assert rows
        assert [tuple(row[: len(rows[0])]) for row in shown[title]] == rows


def test_every_figure_has_source(replayed: SimpleNamespace) -> None:
    parts = [
        each
        for section in replayed.sections.values()
        for each in (*section.figures, *section.tables, *section.charts)
    ]
    assert len(parts) > 40
    for each in parts:
        assert each.source.query or each.source.asset or each.source.text.startswith("metadata")
        assert "${" not in (each.source.query or "")


def test_run_figures(replayed: SimpleNamespace) -> None:
    """Weight is a sum, latency a quantile, and runs within a minute share a billed resumption."""
    shown = figures_of(replayed.sections["data"])
    assert shown["Request weight"].value == "42"
    assert shown["Close to slots, 95 %"].value == "26.4 s"
    assert shown["Warehouse, billed"].value == "3 min"
    assert "3 loads in 2 resumptions" in shown["Warehouse, billed"].detail
    steps = [
        row[0]
        for row in table_of(replayed.sections["data"], "Time from the close of a minute").rows
    ]
    assert steps == ["close to slots", "close to candidate", "close to decision"]


def test_gaps_have_causes(replayed: SimpleNamespace) -> None:
    causes = table_of(replayed.sections["data"], "Missing candles by cause")
    assert causes.rows[0] == ("1m", "exchange_outage", "1", "1", "15")
    assert "15m" in {row[0] for row in causes.rows}


def test_titles_claim_no_majority(replayed: SimpleNamespace) -> None:
    """The most frequent value need not be more than half, so no sentence says "most of"."""
    for section in replayed.sections.values():
        for sentence in (section.headline, *(each.title for each in section.charts)):
            assert not sentence.startswith("Most ")
            assert "most of" not in sentence


def test_incomplete_span_is_named(replayed: SimpleNamespace) -> None:
    """The returns of a week of which one day is stored say how much of the week they are of."""
    readers = Readers(ReportQueries(replayed.warehouse), replayed.store, runs=RUNS)
    figures = figures_of(market_section(readers, Edition.of("week", START.date())))
    assert "of 672 candles of 15m each" in figures["Median return"].detail


def section_of(replayed: SimpleNamespace, edition: Edition) -> Section:
    readers = Readers(ReportQueries(replayed.warehouse), replayed.store, runs=RUNS)
    return trading_section(readers, edition)


def test_week_falls_like_its_day(replayed: SimpleNamespace) -> None:
    """A week's drawdown is measured at the same prices as a day's, so it is at least as large."""
    week = figures_of(section_of(replayed, Edition.of("week", START.date())))
    day = figures_of(replayed.sections["trading"])
    falls = [float(each["Largest drawdown"].value.split()[0]) for each in (week, day)]
    assert falls[0] >= falls[1] > 0
    assert "closes of 15m candles" in week["Change of equity"].detail


def test_line_ends_with_candles(replayed: SimpleNamespace) -> None:
    """The day after has six hours of candles so far: the line ends there, and the figure says so."""
    section = section_of(replayed, Edition.of("day", (START + DAY_LONG).date()))
    [lines] = section.charts
    assert lines.data["time"].max() == START + timedelta(hours=30)
    for text in (lines.note, figures_of(section)["Change of equity"].detail):
        assert "until 2026-11-21 06:00, the newest price" in text


def test_no_closed_trade_has_reason(replayed: SimpleNamespace) -> None:
    """Without a closed trade there is no profit, which is not a profit of zero."""
    section = section_of(replayed, Edition.of("day", (START - DAY_LONG).date()))
    figure = figures_of(section)["Profit of closed trades"]
    assert (figure.value, figure.detail) == (NO_VALUE, "No trade was closed in this span.")
    assert table_of(section, "Accounts").rows[0][2] == NO_VALUE


def test_latency_names_both_sources(replayed: SimpleNamespace) -> None:
    """The slots' times are of runs in Dagster, the others of rows in the warehouse."""
    source = table_of(replayed.sections["data"], "Time from the close of a minute").source
    assert "candidates and decisions in the warehouse" in source.text
    assert "Dagster" in source.text
    assert source.asset == "candle_slots_1m"
    assert source.query


def test_report_logs_in_once(replayed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = []
    connect = snowflake.connector.connect

    def counted(**arguments: object) -> object:
        logins.append(arguments["account"])
        return connect(**arguments)

    monkeypatch.setattr(snowflake.connector, "connect", counted)
    readers = Readers(ReportQueries(replayed.warehouse), replayed.store)
    make_sections(readers, Edition.of("day", date(2026, 10, 1)))
    assert len(logins) == 1


def test_calibration_title_allows_chance() -> None:
    """A difference of one candidate in 937 proves nothing, one of two hundred does."""
    titles = [
        calibration_title(
            pl.DataFrame({"probability": [399 / 937], "cases": [937], "positive": [positive]})
        )
        for positive in (400, 600, 200)
    ]
    assert [title.split()[0] for title in titles] == ["Candidates", "More", "Fewer"]


def test_calibration_title_reads_tenths() -> None:
    """Probabilities that say nothing are right on average: half of each tenth came true."""
    tenths = [(each + 0.5) / 10 for each in range(10)]
    same = pl.DataFrame({"probability": tenths, "cases": [40] * 10, "positive": [20] * 10})
    right = same.with_columns(positive=pl.Series([round(40 * each) for each in tenths]))
    assert "on average, and wrong in 8 of 10 tenths" in calibration_title(same)
    assert "as often as their probabilities say" in calibration_title(right)


@pytest.mark.parametrize(
    ("numbers", "title"),
    [
        ((5, 2, 1), "Cause is a"),
        ((5, 5, 1), "Causes are a, b"),
        ((5,) * 5, "Causes are a, b, c and 2 more"),
    ],
)
def test_title_names_all_most_frequent(numbers: tuple[int, ...], title: str) -> None:
    names = list("abcde"[: len(numbers)])
    counts = pl.DataFrame({"cause": names, "candles": numbers})
    assert most_frequent("Cause is", "Causes are", counts) == title


def test_few_hours_are_not_judged() -> None:
    """A mean without an interval is less sure than one whose interval contains zero."""
    hours = pl.DataFrame(
        [("up", 60, START, 8, 0.04, 7, 0, 0)],
        [
            "strategy",
            "horizon_minutes",
            "hour",
            "cases",
            "returns",
            "positive",
            "not_over",
            "minutes_missing",
        ],
        orient="row",
    )
    found = pl.DataFrame({"strategy": ["up"], "candidates": [8]})
    assert "too short a time" in headline_of(found, measures(hours, EDITION))


def test_outcomes_by_strategy(replayed: SimpleNamespace) -> None:
    """Each strategy and horizon has its mean, its share and an interval that contains it."""
    bucket: S3Bucket = replayed.bucket
    outcomes = RecomputedReport(bucket.client, bucket.name, START, EDITION.end).outcomes
    table = table_of(replayed.sections["candidates"], "Outcomes of candidates")
    held = {row[:2]: row for row in table.rows}
    for strategy in STRATEGIES:
        returns = outcomes[outcomes["strategy"] == strategy]["return_1h"].dropna()
        row = held[strategy, "1h"]
        assert row[2:4] == (f"{len(returns):,}", f"{returns.mean() * 100:+.3f} %")
        assert row[5] == f"{(returns > 0).mean() * 100:.1f} %"
        low, high = (float(each) for each in row[4].removesuffix(" %").split(" to "))
        assert low <= returns.mean() * 100 <= high


def test_charts_have_all_points(replayed: SimpleNamespace) -> None:
    """Charts have a point for each hour and quarter; text from outside stays as it is."""
    section = replayed.sections["candidates"]
    [heatmap] = [each for each in section.charts if each.kind == "heatmap"]
    assert heatmap.data["strategy"].unique().sort().to_list() == sorted(STRATEGIES)
    assert heatmap.data.height == 24 * len(STRATEGIES)
    [lines] = [each for each in replayed.sections["trading"].charts if each.kind == "lines"]
    assert lines.data["equity"][0] == 0
    assert lines.data.height == 97


def test_open_positions_and_mode(replayed: SimpleNamespace) -> None:
    trading = replayed.sections["trading"]
    assert table_of(trading, "Accounts").rows[0][-1] == "HALTED daily loss"
    held = {
        row[1]: float(row[2].replace(",", ""))
        for row in table_of(trading, "Open positions at the end").rows
    }
    assert held["BTCUSDT"] > 0
    limits = {row[0] for row in table_of(trading, "Risk limits that refused entries").rows}
    assert limits == {"order_notional", "mode"}


def test_drift_names_what_moved(replayed: SimpleNamespace) -> None:
    [figure] = replayed.sections["drift"].figures
    assert (figure.label, figure.value) == (STRATEGIES[0], "moved")
    assert figure.source.asset == f"drift {START.date()}"


def test_day_without_data_says_so(warehouse: Warehouse, s3_bucket: S3Bucket) -> None:
    """No table, no view and no object exist, as on the day of an installation."""
    readers = Readers(ReportQueries(warehouse), ObjectStore(s3_bucket.settings()))
    for section in make_sections(readers, EDITION):
        assert section.empty
        assert section.headline
        assert (section.figures, section.charts, section.tables) == ((), (), ())


@pytest.fixture
def lake(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def test_other_accounts_trade_counts_once(warehouse: Warehouse, lake: ObjectStore) -> None:
    """Two accounts trade one decision on two days; damaged books of one end no report."""
    for account, day in (("paper", DAY), ("other", DAY - timedelta(days=1))):
        at = {"account": account, "decision_id": "decision-1"}
        moved = timedelta(days=(day - DAY).days)
        legs = [a_fill(n, side=side, **at) for n, side in enumerate(("buy", "sell"))]
        put(lake, Kind.FILLS, *(leg | {"filled_at": NOON + moved} for leg in legs), day=day)
    load_records(lake, warehouse, record_tables.FILLS, None, "run")
    update_views(lake, warehouse)
    for document in (b"{}", b"[]", b'{"at": 1e300}', b"{"):
        lake.put(f"accounts/{DAY:%Y%m%d}/235959-paper-000000000001.json", document)
        section = trading_section(Readers(ReportQueries(warehouse), lake), EDITION)
        assert [row[:3] for row in table_of(section, "Closed trades").rows] == [("paper", "x", "1")]
        result = figures_of(section)["Result by the gateway"]
        assert result.value == NO_VALUE
        assert "235959-paper-000000000001.json" in result.detail
        assert table_of(section, "Accounts").rows[0][-1] == NO_VALUE


def test_days_add_up_to_week(warehouse: Warehouse, lake: ObjectStore) -> None:
    """A position bought before midnight, without a candle since, begins the day at the price of its fill."""
    minutes = made_minutes(("BTCUSDT",))
    day = ReportDay(lake, warehouse)
    for interval in (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR):
        since = pl.col("open_time") >= START
        day.candles(interval, aggregate(minutes, interval).filter(since))
    bought = {"quantity": Decimal(2), "price": Decimal(50), "fee": Decimal(1)}
    before = START - timedelta(minutes=5)
    put(lake, Kind.FILLS, a_fill(1, filled_at=before, **bought), day=before.date())
    load_records(lake, warehouse, record_tables.FILLS, None, "run")
    update_views(lake, warehouse)
    readers = Readers(ReportQueries(warehouse), lake)

    def change(edition: Edition) -> float:
        shown = figures_of(trading_section(readers, edition))["Change of equity"].value
        return float(shown.split()[0].replace(",", ""))

    week = Edition.of("week", START.date())
    days = [change(Edition.of("day", START.date() + timedelta(days=n))) for n in (-1, 0, 1)]
    assert change(week) == pytest.approx(sum(days), abs=0.02)
    assert days[0] == -1


def test_damaged_drift_is_named(lake: ObjectStore, warehouse: Warehouse) -> None:
    """A damaged document is not taken as a day on which nothing was measured."""
    lake.put(f"drift/x/{START:%Y%m%d}.json", b"{")
    readers = Readers(ReportQueries(warehouse), lake)
    section = drift_section(readers, EDITION)
    assert section.empty
    assert "drift/x/20261120.json is damaged" in section.empty
    ReportDay(lake, warehouse).documents()
    figures = figures_of(drift_section(readers, EDITION))
    assert figures["x"].value == NO_VALUE
    assert "materialize drift of 2026-11-20" in figures["x"].detail
    assert figures[STRATEGIES[0]].value == "moved"


def test_unloaded_ledger_is_not_complete(warehouse: Warehouse, lake: ObjectStore) -> None:
    """A day whose ledger is on the lake and not in the warehouse is not reported as complete."""
    mark_finalized(lake, Interval.ONE_HOUR, EDITION.days()[0], {"BTCUSDT": FinalizedDay("etag")})
    write_gaps(lake, EDITION.days()[0], gap_schema().to_frame())
    section = data_section(Readers(ReportQueries(warehouse), lake), EDITION)
    assert section.empty
    assert "candle_gap_table" in section.empty
