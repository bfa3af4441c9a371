"""The definitions that Dagster loads: assets and their descriptions, checks, jobs and schedules."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import (
    AssetCheckKey,
    AssetKey,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    ScheduleDefinition,
)
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.execution.api import create_execution_plan

from pipeline_assets.definitions import build_definitions
from pipeline_assets.settings import Settings

INTERVALS = ("1m", "15m", "1h")
LAYERS = {
    "1m": ("raw_candles_1m", "candles_1m", "candle_objects_1m", "candle_slots_1m"),
    "15m": (
        *("raw_candles_15m", "candles_15m", "candle_objects_15m", "candle_table_15m"),
        "features_15m",
    ),
    "1h": ("raw_candles_1h", "candles_1h", "candle_objects_1h", "candle_table_1h", "features_1h"),
}
KINDS = {
    "raw_candles": {"binance", "parquet", "s3"},
    "candles": {"polars", "parquet", "s3"},
    "candle_objects": {"s3", "parquet"},
    "candle_slots": {"redis"},
    "candle_table": {"snowflake", "sql"},
    "features": {"snowflake", "sql"},
}
CANDIDATES = {
    "candidates": {"kafka", "redis", "polars"},
    "candidate_objects": {"s3", "parquet"},
    "candidate_table": {"snowflake", "sql"},
    "candidate_outcomes": {"polars", "parquet", "s3"},
    "candidate_outcome_table": {"snowflake", "sql"},
}
# External: the sensor `trading_records` reports these, and no run materializes them.
TRADING = {
    "decisions": {"kafka", "s3", "parquet"},
    "orders": {"s3", "parquet"},
    "fills": {"s3", "parquet"},
    "positions": {"s3"},
}
# Each with the asset that it loads.
TRADING_TABLES = {
    "decision_table": "decisions",
    "intent_table": "decisions",
    "order_table": "orders",
    "fill_table": "fills",
}
VIEWS = "analysis_views"
GAPS = {
    "candle_gaps": {"polars", "parquet", "s3"},
    "candle_gap_table": {"snowflake", "sql"},
}
FUNDING = {
    "funding_rates": {"binance", "parquet", "s3"},
    "funding_table": {"snowflake", "sql"},
}


# Their partitions are strategies.
REPORT, MODEL, DRIFT = "backtest_report", "model", "drift"
# By day, week and month.
RECONCILIATION = "account_reconciliation"
REPORTS = ("daily_report", "weekly_report", "monthly_report")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    return build_definitions(Settings(data_dir=tmp_path_factory.mktemp("data")))


def layer_of(key: AssetKey) -> str:
    return key.path[0].rpartition("_")[0]


def test_worker_can_load_all_jobs(definitions: Definitions) -> None:
    """No job has the name of an asset: Dagster refuses the repository then, at its first full load only."""
    names = {job.name for job in definitions.get_repository_def().get_all_jobs()}
    assert {"seal", "models", "model_drift"} <= names


def test_each_interval_has_its_assets(
    definitions: Definitions,
) -> None:
    """Each interval has the four steps' assets, and features if it has a table."""
    graph = definitions.resolve_asset_graph()
    expected = {AssetKey(name) for names in LAYERS.values() for name in names}
    assert len(expected) == 14
    others = {
        AssetKey(name)
        for name in (
            *(*CANDIDATES, *TRADING, *TRADING_TABLES, VIEWS, *GAPS, *FUNDING, "universe"),
            *(REPORT, MODEL, DRIFT, RECONCILIATION, *REPORTS),
        )
    }
    assert graph.get_all_asset_keys() == expected | others


def test_assets_have_descriptions_and_owners(definitions: Definitions) -> None:
    """Each asset has a description and an owner."""
    graph = definitions.resolve_asset_graph()
    for interval, names in LAYERS.items():
        for name in names:
            node = graph.get(AssetKey(name))
            assert set(node.kinds) == KINDS[layer_of(node.key)], name
            assert node.group_name == f"interval_{interval}"
            assert node.owners == ["team:market-data"]
            assert node.description
            assert len(node.description) > 60
    for name, kinds in CANDIDATES.items():
        node = graph.get(AssetKey(name))
        assert (set(node.kinds), node.group_name) == (kinds, "candidates")
        assert node.owners == ["team:market-data"]
        assert node.description
    tables = {name: {"snowflake", "sql"} for name in (*TRADING_TABLES, VIEWS)}
    groups = {"gaps": GAPS, "funding": FUNDING, "trading": TRADING | tables}
    for group, assets in groups.items():
        for name, kinds in assets.items():
            node = graph.get(AssetKey(name))
            assert (set(node.kinds), node.group_name) == (kinds, group)
            assert node.owners == ["team:market-data"]
            assert node.description
    node = graph.get(AssetKey("universe"))
    assert (set(node.kinds), node.group_name) == ({"binance", "s3"}, "universe")
    assert node.owners == ["team:market-data"]


def test_lineage_follows_the_four_steps(
    definitions: Definitions,
) -> None:
    """The lineage goes from fetch to format, to upload, to insert."""
    graph = definitions.resolve_asset_graph()
    parents = {
        key.path[0]: {parent.path[0] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    for interval in INTERVALS:
        raw, formatted, objects, loaded, *features = LAYERS[interval]
        assert parents[raw] == set()
        assert parents[formatted] == {raw}
        assert parents[objects] == {formatted}
        # Slots need the formatted candles, not the uploads.
        assert parents[loaded] == {formatted if interval == "1m" else objects}
        for name in features:
            assert parents[name] == {loaded, "funding_table"}
    assert parents["candidates"] == {"candle_slots_1m"}
    assert parents["candidate_objects"] == parents["candidate_table"] == {"candidates"}
    assert parents["candidate_outcomes"] == {"candidate_objects", "candle_objects_1m"}
    assert parents["candidate_outcome_table"] == {"candidate_outcomes"}
    assert {name: parents[name] for name in TRADING_TABLES} == {
        name: {loaded} for name, loaded in TRADING_TABLES.items()
    }
    assert parents[VIEWS] == {*TRADING_TABLES, "candidate_table", "candidate_outcome_table"}
    way = ("candidates", *TRADING)
    expected = [{name} for name in way[:-1]]
    # The inference service decides by models, and these learn from features.
    expected[0].add("model")
    assert [parents[name] for name in TRADING] == expected
    assert {"features_15m", "features_1h"} < parents["model"]
    # The ledger does not depend on the tables: it reports gaps also while the warehouse is down.
    assert parents["candle_gaps"] == {f"candle_objects_{interval}" for interval in INTERVALS}
    assert parents["candle_gap_table"] == {"candle_gaps"}
    assert (parents["funding_rates"], parents["funding_table"]) == (set(), {"funding_rates"})
    read = {"candle_objects_1m", "funding_rates", "features_15m", "features_1h"}
    assert parents[MODEL] == read
    assert parents[RECONCILIATION] == {"orders", "fills"}
    assert parents[DRIFT] == {"features_15m", "features_1h", MODEL, "decisions", "fills"}
    reported = {
        *TRADING_TABLES,
        "candidate_table",
        "candidate_outcome_table",
        "candle_gap_table",
        DRIFT,
        RECONCILIATION,
    }
    reported |= {"candle_objects_1m", "candle_table_15m", "candle_table_1h", "funding_table"}
    assert [parents[name] for name in REPORTS] == [reported] * 3


def test_only_sensor_finds_candidates(definitions: Definitions) -> None:
    """Candidates are found by a sensor and never by a run."""
    graph = definitions.resolve_asset_graph()
    assert not graph.get(AssetKey("candidates")).is_materializable
    assert graph.get(AssetKey("candidate_objects")).is_materializable
    [sensor] = [each for each in definitions.sensors or () if each.name == "candidates"]
    assert sensor.minimum_interval_seconds == 5
    assert sensor.default_status is DefaultSensorStatus.RUNNING


def test_only_sensor_reports_trading(definitions: Definitions) -> None:
    """Nothing of trading can be materialized by hand."""
    graph = definitions.resolve_asset_graph()
    assert not any(graph.get(AssetKey(name)).is_materializable for name in TRADING)
    [sensor] = [each for each in definitions.sensors or () if each.name == "trading_records"]
    assert sensor.minimum_interval_seconds == 60
    assert sensor.default_status is DefaultSensorStatus.RUNNING


def test_partitions_are_utc_days(definitions: Definitions) -> None:
    """Partitions are UTC days from the first to today."""
    graph = definitions.resolve_asset_graph()
    # Positions are those of now, and so are the views.
    undated = {AssetKey(name) for name in (REPORT, MODEL, "positions", VIEWS, *REPORTS[1:])}
    for key in graph.get_all_asset_keys() - undated:
        partitions = graph.get(key).partitions_def
        assert partitions is not None
        late = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)
        keys = partitions.get_partition_keys(current_time=late)
        assert (keys[0], keys[-1]) == ("2019-09-08", "2026-11-20")
        assert partitions.get_partition_keys(current_time=late.replace(day=21, hour=0))[-1] == (
            "2026-11-21"
        )
        # A run makes one report.
        if key.path[0] in ("candidates", *TRADING, REPORTS[0]):
            continue
        policy = graph.get(key).backfill_policy
        assert policy is not None
        assert policy.max_partitions_per_run == 31


def test_checks_are_partitioned_except_freshness(definitions: Definitions) -> None:
    """Every check but freshness belongs to a partition."""
    graph = definitions.resolve_asset_graph()
    names: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        names.setdefault(key.asset_key.path[0], set()).add(key.name)
        partitioned = graph.get(key).partitions_def is not None
        assert partitioned == (key.name != "fresh"), key
    assert names == {
        f"candle_objects_{interval}": {
            *("window", "zero_volume", "complete", "consistent", "fresh")
        }
        for interval in INTERVALS
    } | {
        "candidate_objects": {"parity"},
        "candle_gaps": {"nothing_to_fetch", "outages", "zero_volume"},
        DRIFT: {"model_drift"},
        RECONCILIATION: {"matches_exchange"},
        "universe": {"entries"},
        "funding_rates": {"complete"},
        MODEL: {"promotion"},
        "decisions": {"readable"},
        "orders": {"readable"},
        "fills": {"readable"},
    }


def steps(definitions: Definitions, job: str) -> list[str]:
    """Return a job's steps in the order in which the in-process executor takes them."""
    plan = create_execution_plan(
        definitions.resolve_job_def(job), tags={"dagster/partition": "2026-11-19"}
    )

    def priority(key: str) -> int:
        return int(plan.get_step_by_key(key).tags.get("dagster/priority", 0))

    return [
        step.key
        for level in plan.get_steps_to_execute_by_level()
        for step in sorted(level, key=lambda step: (-priority(step.key), step.key))
    ]


@pytest.mark.parametrize("interval", INTERVALS)
def test_ingest_skips_whole_day_checks(definitions: Definitions, interval: str) -> None:
    """An ingest run executes the interval's assets and no check of whole days."""
    assert set(steps(definitions, f"tick_{interval}")) == set(LAYERS[interval])
    job = definitions.resolve_job_def(f"tick_{interval}")
    objects = NodeHandle(f"candle_objects_{interval}", None)
    selected = job.asset_layer.get_selected_entity_keys_for_node(objects)
    checks = {key.name for key in selected if isinstance(key, AssetCheckKey)}
    assert checks == {"window", "zero_volume"}


def test_ingest_fills_slots_before_upload(definitions: Definitions) -> None:
    """An ingest run fills the slots before it uploads."""
    order = steps(definitions, "tick_1m")
    assert order.index("candle_slots_1m") < order.index("candle_objects_1m")


def test_ingest_runs_do_not_overlap(
    definitions: Definitions,
) -> None:
    """Ingest runs write one open day one at a time, and minutes go first."""
    tags = {i: definitions.resolve_job_def(f"tick_{i}").run_tags for i in INTERVALS}
    for interval in INTERVALS:
        assert tags[interval]["pipeline/open_day"] == interval
        assert tags[interval]["pipeline/kind"] == "tick"
    priorities = [int(tags[interval]["dagster/priority"]) for interval in INTERVALS]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == 3


def test_hanging_run_is_ended(
    definitions: Definitions,
) -> None:
    """A run that hangs is ended before it delays later ones for long."""
    expected = {
        "tick_1m": 15,
        "tick_15m": 45,
        "tick_1h": 45,
        "seal": 3 * 60,
        "funding": 45,
        "models": 45,
        "model_drift": 45,
    }
    days = {f"{name}_{i}": 24 * 60 for name in ("backfill", "repair") for i in INTERVALS}
    days["funding_backfill"] = 24 * 60
    for job, minutes in (expected | days).items():
        seconds = definitions.resolve_job_def(job).run_tags["dagster/max_runtime"]
        assert int(seconds) == minutes * 60, job


def test_finalizing_stores_minutes_first(
    definitions: Definitions,
) -> None:
    """Finalizing stores the minutes before other candles are compared with them."""
    found = steps(definitions, "seal")
    # Days are planned by what it has seen of delistings.
    assert found[0] == "universe"
    assert {*found} == {
        "universe",
        *(name for names in LAYERS.values() for name in names),
        *(f"day_checks_{interval}" for interval in INTERVALS),
        *("candidate_objects", "candidate_objects_parity"),
        *("candle_gaps", "candle_gaps_zero_volume", "candle_gap_table"),
    }
    for interval in ("15m", "1h"):
        plan = create_execution_plan(
            definitions.resolve_job_def("seal"), tags={"dagster/partition": "2026-11-19"}
        )
        needed = plan.get_executable_step_deps()[f"day_checks_{interval}"]
        assert needed >= {"candle_objects_1m", f"candle_objects_{interval}"}


def test_repair_covers_interval_then_ledger(definitions: Definitions) -> None:
    """A repair is the days of one interval and then the ledger."""
    for interval, names in LAYERS.items():
        found = steps(definitions, f"repair_{interval}")
        assert {*found} == {
            *names,
            f"day_checks_{interval}",
            # Without `zero_volume`, which reads the candles of all symbols.
            *("candle_gaps", "candle_gap_table"),
        }
        assert definitions.resolve_job_def(f"repair_{interval}").run_tags["pipeline/kind"] == (
            "backfill"
        )


def test_one_loader_for_each_table(definitions: Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    pools = {
        interval: graph.get(AssetKey(f"candle_table_{interval}")).pools
        for interval in ("15m", "1h")
    }
    assert pools == {"15m": {"snowflake_candles_15m"}, "1h": {"snowflake_candles_1h"}}
    for interval in pools:
        found = graph.get(AssetKey(f"features_{interval}")).pools
        assert found == {f"snowflake_features_{interval}"}


def test_schedules_are_off_by_default(definitions: Definitions, tmp_path: Path) -> None:
    """Nothing is scheduled unless the settings say so."""
    scheduled = build_definitions(Settings(data_dir=tmp_path, dagster={"schedules": True}))
    for made, schedule in (
        (definitions, DefaultScheduleStatus.STOPPED),
        (scheduled, DefaultScheduleStatus.RUNNING),
    ):
        held = [each for each in made.schedules or () if isinstance(each, ScheduleDefinition)]
        assert {each.name: each.cron_schedule for each in held} == {
            "tick_1m": "* * * * *",
            "tick_15m": "*/15 * * * *",
            "tick_1h": "0 * * * *",
            "funding": "5 * * * *",
            "trading_tables": "*/15 * * * *",
            "outcomes": "10 4 * * *",
            "seal": "5 1 * * *",
            "housekeeping": "30 1 * * *",
            "models": "0 3 * * 0",
            "model_drift": "30 2 * * *",
            "reconciliation": "20 4 * * *",
            "report_day": "40 4 * * *",
            "report_week": "0 5 * * 1",
            "report_month": "20 5 1 * *",
        }
        assert {each.default_status for each in held} == {schedule}
        assert {each.execution_timezone for each in held} == {"UTC"}
        # These sensors run with either scheduler. Without a webhook there is no receiver of alerts.
        assert {each.name: each.default_status for each in made.sensors or ()} == {
            "freshness": DefaultSensorStatus.RUNNING,
            "candidates": DefaultSensorStatus.RUNNING,
            "gap_repair": DefaultSensorStatus.RUNNING,
            "backtest_reports": DefaultSensorStatus.RUNNING,
            "overdue_ingest": DefaultSensorStatus.RUNNING,
            "stale_alerts": DefaultSensorStatus.STOPPED,
            "trading_records": DefaultSensorStatus.RUNNING,
            "waiting_runs": DefaultSensorStatus.RUNNING,
        }


def test_definitions_accept_other_resources(tmp_path: Path) -> None:
    """Definitions take resources in place of their own."""
    mine = object()
    made = build_definitions(Settings(data_dir=tmp_path), warehouse=mine)
    assert (made.resources or {})["warehouse"] is mine
