"""Settings of every test: the real servers' fixtures, and the rule that a skip counts as a failure."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline_assets_tests.arrangement import arrange
from pipeline_assets_tests.examples import profile_of
from pipeline_assets_tests.market_data import market_data

# Libraries and tests stay until the end, so each collection of garbage while they are imported looks through
# more of them in vain: a quarter of the CPU time that a worker needs to begin.
gc.disable()

pytest_plugins = [
    "pytester",
    "pipeline_assets_tests.fixtures.exchange",
    "pipeline_assets_tests.fixtures.running_exchange",
    "pipeline_assets_tests.fixtures.stepped_exchange",
    "pipeline_assets_tests.fixtures.s3",
    "pipeline_assets_tests.fixtures.proxy",
    "pipeline_assets_tests.fixtures.redis",
    "pipeline_assets_tests.fixtures.redis_groups",
    "pipeline_assets_tests.fixtures.postgres",
    "pipeline_assets_tests.fixtures.journals",
    "pipeline_assets_tests.fixtures.snowflake",
    "pipeline_assets_tests.fixtures.kafka",
    "pipeline_assets_tests.fixtures.platform",
    "pipeline_assets_tests.fixtures.dagster_web",
    "pipeline_assets_tests.fixtures.airflow",
    "pipeline_assets_tests.fixtures.webhook",
    "pipeline_assets_tests.fixtures.tcp_proxy",
    "pipeline_assets_tests.fixtures.tls",
    "pipeline_assets_tests.fixtures.aws",
    "pipeline_assets_tests.fixtures.candidates",
    "pipeline_assets_tests.fixtures.commands",
    "pipeline_assets_tests.fixtures.shell",
    "pipeline_assets_tests.fixtures.dagster_home",
    "pipeline_assets_tests.fixtures.gateway",
    "pipeline_assets_tests.fixtures.gateway_process",
    "pipeline_assets_tests.fixtures.snowpark_ml",
]


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module is imported: a decorator takes what holds when it is applied.
    settings.load_profile(profile_of(config.getoption("-m")))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    result = yield
    gc.freeze()
    gc.enable()
    return result


def pytest_unconfigure() -> None:
    # Libraries look at the exit for objects that were not freed.
    gc.unfreeze()


# Before pytest-xdist appends the group to a test's name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        arrange(items)


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
