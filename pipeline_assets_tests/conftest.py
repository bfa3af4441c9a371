"""Settings of every test: the real servers' fixtures, and the rule that a skip counts as a failure."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline_assets_tests.market_data import market_data

# A deadline, or a limit on how long examples take to make, fails on a busy machine and says nothing of the
# code. Loaded here, before any test module: a decorator takes what holds when it is applied.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = [
    "pytester",
    "pipeline_assets_tests.fixtures.exchange",
    "pipeline_assets_tests.fixtures.s3",
    "pipeline_assets_tests.fixtures.proxy",
    "pipeline_assets_tests.fixtures.redis",
    "pipeline_assets_tests.fixtures.snowflake",
    "pipeline_assets_tests.fixtures.kafka",
    "pipeline_assets_tests.fixtures.platform",
    "pipeline_assets_tests.fixtures.airflow",
    "pipeline_assets_tests.fixtures.webhook",
    "pipeline_assets_tests.fixtures.tcp_proxy",
    "pipeline_assets_tests.fixtures.candidates",
    "pipeline_assets_tests.fixtures.commands",
    "pipeline_assets_tests.fixtures.shell",
    "pipeline_assets_tests.fixtures.gateway",
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"A skipped test proves nothing, so it fails: {report.longrepr}"


@pytest.fixture(name="market_data")
def market_data_directory() -> Path:
    """Provide the directory of candle files and exchange replies."""
    return market_data()
