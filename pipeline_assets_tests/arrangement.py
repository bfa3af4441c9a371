"""Which tests one worker of pytest-xdist runs, and which start first; conftest.py applies both.

Only what saves time belongs here. Tests that must not run at once carry an `xdist_group` mark themselves, and
their mark decides. pytest-xdist starts groups of several tests first, larger ones before smaller ones.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Started once for a whole module or run, by each worker that has a test of it.
SHARED = {
    "beside_airflow": "airflow_dags/test_dag_files.py",
    "checking_s3_server": "fixtures/s3.py",
    "dagster_port": "test_guarded_servers.py",
    "dagster_schema": "fixtures/dagster_web.py",
    "definitions": "test_definitions.py",
    "files_exchange": "assets/test_own_files.py",
    "fresh": "test_wheel.py",
    "kafka_server": "fixtures/kafka.py",
    "parsed": "airflow_dags/test_dag_files.py",
}
# Files whose tests share an import of seconds, models fitted once a process, or a fixture of another name.
GROUPS = {
    "jobs/test_schedules.py": "schedules",
    "sensors/test_new_listings.py": "listings",
    "resources/test_object_store.py": "moto",
    "assets/test_daily_reports.py": "reports",
    "research/daily_report/test_edition.py": "reports",
    "research/daily_report/test_sections.py": "reports",
    "assets/test_model.py": "models",
    "cli/test_models.py": "models",
    "research/test_estimators.py": "models",
    "research/test_model_files.py": "models",
    "research/test_model_registry.py": "models",
    "research/test_walk_forward.py": "models",
    "resources/test_current_models.py": "models",
    "services/inference/test_judging.py": "models",
}
# A long test that starts last runs alone at the end, while the other workers have none left.
LONGEST = (
    "local/test_demo.py::test_demo_then_ui_over_same_data",
    "assets/test_new_interval.py::test_new_interval_runs_end_to_end",
    "cli/test_gaps.py::test_causes_are_named_and_gaps_filled",
    "cli/test_main.py::test_killed_backfill_is_done_by_repeat",
    "sensors/test_days_off.py::test_return_stores_everything_missed",
    "assets/test_crashes.py::test_killed_run_leaves_no_trace_fast",
    "assets/test_failures.py::test_failing_symbol_among_500_is_healed",
    "cli/test_main.py::test_backfill_reports_to_a_program",
    "local/test_stack.py::test_older_data_without_credentials_are_kept",
    "assets/test_resume.py::test_failing_symbol_delays_no_later_days",
    "assets/test_features.py::test_ingest_merges_each_load_once",
    "cli/test_gaps.py::test_todays_hole_is_requested_once",
    "cli/test_gaps.py::test_false_zero_volume_shows_until_refetched",
    "assets/test_failures.py::test_down_warehouse_delays_only_table",
    "market/test_gap_causes.py::test_first_matching_cause_is_given",
    "market/test_strategies.py::test_live_with_restarts_equals_history",
)


def group_of(file: str, fixtures: list[str]) -> str | None:
    """Return the group of a test without a mark of its own, or None if any worker may run it."""
    shared = sorted(SHARED.keys() & set(fixtures))
    return GROUPS.get(file) or (shared[0] if shared else None)


def place(name: str) -> int:
    """Return the place of a test in the order of starts: the longest first, all others as collected."""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def arrange(items: list[pytest.Item]) -> None:
    """Group the tests of a worker, and move the longest ones to the front."""
    names: dict[pytest.Item, str] = {}
    for item in items:
        file = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        names[item] = f"{file}::{getattr(item, 'originalname', item.name)}"
        group = group_of(file, getattr(item, "fixturenames", []))
        if group and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: place(names[item]))
