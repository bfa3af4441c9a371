"""What a run loads before its first step stays light: a heavy library would delay every minute."""

import subprocess
import sys

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
    "numpy",
    "obstore",
    "pandas",
    "polars",
    "pyarrow",
    "redis",
    "rich",
    "snowflake.connector",
    "talib",
}
PROGRAM = "import sys, pipeline_assets.definitions; print(*sys.modules, sep='\\n')"


def test_the_definitions_load_no_heavy_library() -> None:
    shown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE)
    loaded = set(shown.stdout.decode().split())
    assert "dagster" in loaded
    assert loaded & HEAVY == set()
