"""What holds for every test: the real servers' fixtures, and that a skip counts as a failure where
the shared market data is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A deadline, or a limit on how long examples take to make, fails on a busy machine and says nothing of the
# code. Loaded here, before any test module: a decorator takes what holds when it is applied.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = [
    "pipeline_assets_tests.fixtures.exchange",
    "pipeline_assets_tests.fixtures.s3",
    "pipeline_assets_tests.fixtures.redis",
    "pipeline_assets_tests.fixtures.snowflake",
    "pipeline_assets_tests.fixtures.kafka",
    "pipeline_assets_tests.fixtures.platform",
    "pipeline_assets_tests.fixtures.airflow",
    "pipeline_assets_tests.fixtures.webhook",
    "pipeline_assets_tests.fixtures.candidates",
]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "market_data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.skipped and SHARED.exists() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although the shared data is there: {report.longrepr}"
    return report


@pytest.fixture
def market_data() -> Path:
    """Real candles and recorded replies; skips where they are absent."""
    if not SHARED.exists():
        pytest.skip(f"the shared market data is not at {SHARED}")
    return SHARED
