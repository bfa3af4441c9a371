"""The imports of a run before its first step stay light: a heavy library would delay every minute.
Commands that do not need Dagster do not import it, for the same reason."""

import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "aiohttp",
    "binance",
    "boto3",
    "botocore",
    "confluent_kafka",
    "dagster_aws",
    "dagster_snowflake",
    "matplotlib",
    "numba",
    "numpy",
    "obstore",
    "pandas",
    "polars",
    "pyarrow",
    "redis",
    "rich",
    "scipy",
    "skops",
    "sklearn",
    "snowflake.connector",
    "talib",
}
PROGRAM = "import sys, pipeline_assets.definitions; print(*sys.modules, sep='\\n')"

TRADING = """
import sys
from pipeline_assets.market.step_compilation import without_compilation
without_compilation()
import pipeline_assets.services.gateway.process, pipeline_assets.services.trader
from pipeline_assets.market import position_step
from pipeline_assets.market.strategies import configured_rules
from pipeline_assets.settings import Settings
configured_rules(Settings(_env_file=None).strategies)
print(*sys.modules, sep="\\n")
"""

COMMAND = """
import sys
from pipeline_assets.cli.main import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n")
"""


def test_the_definitions_load_no_heavy_library() -> None:
    shown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE)
    loaded = set(shown.stdout.decode().split())
    assert "dagster" in loaded
    assert loaded & HEAVY == set()


def test_trading_loads_no_compiler() -> None:
    """Gateway and trader run all day beside the rest: they leave out Numba, Arrow and Dagster."""
    shown = subprocess.run([sys.executable, "-c", TRADING], check=True, stdout=subprocess.PIPE)
    loaded = set(shown.stdout.decode().split())
    assert "numpy" in loaded
    assert loaded & {"numba", "llvmlite", "pyarrow", "pandas", "polars", "dagster"} == set()


@pytest.mark.parametrize("arguments", [("--help",), ("candidates", "--schema")])
def test_commands_without_dagster_skip_it(
    arguments: tuple[str, ...],
) -> None:
    """A command that does not need Dagster does not load it."""
    shown = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], check=True, stdout=subprocess.PIPE
    )
    loaded = set(shown.stdout.decode().splitlines())
    assert "pipeline_assets.cli.backfill" in loaded
    assert loaded & (HEAVY | {"dagster"}) == set()
