"""A recorded deployment to Snowflake: its statements, its files, and the predictions of its package."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline_assets.research.model_registry import LoadedModel, ModelRegistry
from pipeline_assets.resources.current_models import Promoter
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.snowpark_ml import names
from pipeline_assets.snowpark_ml.recording import Recording
from pipeline_assets_tests.fixtures.models import (
    COLUMNS,
    KINDS,
    NOON,
    STRATEGY,
    examples,
    manifest,
    stored,
)
from pipeline_assets_tests.fixtures.s3 import (
    S3Server,
    make_bucket,
)
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, USER, SnowflakeServer
from pipeline_assets_tests.fixtures.snowpark_ml import environment_of

GOLDEN = Path(__file__).parent / "deployment.sql"
HANDLER = Path(__file__).parent / "run_handler.py"
# Ids follow from data and libraries, so that another release has others.
_IDS = (
    (re.compile(r"V[0-9]{8}_[0-9A-F]{12}"), "V20261122_0123456789AB"),
    (re.compile(r"[0-9]{8}-[0-9a-f]{12}"), "20261122-0123456789ab"),
    (re.compile(r"SHA-256 [0-9a-f]{64}"), "SHA-256 0123"),
)


def comparable(text: str) -> list[str]:
    """Return statements with the same ids, uploads sorted: a directory is read in any order."""
    for pattern, name in _IDS:
        text = pattern.sub(name, text)
    statements = [each.strip() for each in text.split(";\n") if each.strip()]
    uploads = sorted(each for each in statements if each.startswith("PUT"))
    first = next(place for place, each in enumerate(statements) if each.startswith("PUT"))
    others = [each for each in statements if not each.startswith("PUT")]
    return [*others[:first], *uploads, *others[first:]]


def golden() -> list[str]:
    return comparable(GOLDEN.read_text("utf-8"))


def test_names_are_those_sent() -> None:
    """The recorded statements name model, version and description as names.py makes them."""
    sent = "\n".join(golden())
    assert f"CREATE MODEL MARKET_DATA.FUTURES.{names.model_name(STRATEGY)} WITH VERSION V" in sent
    assert f"SET COMMENT=$${STRATEGY} {manifest().strategy_version}, trained on" in sent
    assert '"metrics": {"net per candidate": 0.001}' in sent
    assert sent.rstrip().endswith("SET DEFAULT_VERSION = V20261122_0123456789AB")


def test_deployment_makes_no_code_object() -> None:
    """No procedure, no function, no table and no prediction: nine files, one model, one version."""
    kinds = {re.sub(r"\s+", " ", each).split(" ", 1)[0] for each in golden()}
    assert kinds == {"SHOW", "SELECT", "CREATE", "DESC", "PUT", "ALTER"}
    assert [each.split()[1:3] for each in golden() if each.startswith("CREATE")] == [
        ["SCOPED", "TEMPORARY"],
        ["MODEL", f"MARKET_DATA.FUTURES.{names.model_name(STRATEGY)}"],
    ]
    assert not [each for each in golden() if "!" in each]


def test_model_statements_stay_here() -> None:
    """A dry run sends no statement about models; after its CREATE MODEL, the model is listed."""
    recording = Recording(installed=lambda _: "2.6.0")
    sent = [recording.answered(each) for each in golden() if not each.startswith("PUT")]
    assert {each.split()[0] for each in sent} <= {"SHOW", "SELECT", "CREATE", "DESC"}
    assert not [each for each in sent if re.search(r"\b(MODELS?|VERSIONS?|SYSTEM\$)\s", each)]
    listed = [
        answer.endswith("WHERE FALSE")
        for each, answer in zip(
            (each for each in golden() if not each.startswith("PUT")), sent, strict=True
        )
        if each.startswith("SHOW MODELS")
    ]
    assert listed == sorted(listed, reverse=True)
    assert set(listed) == {True, False}


def test_prediction_names_every_column() -> None:
    """The statement for a real account has the columns in the model's order."""
    columns = re.search(
        r"judge!PREDICT_PROBA\((.*?)\)", names.prediction_sql(manifest()), re.DOTALL
    )
    assert columns is not None
    assert tuple(columns[1].split(", ")) == COLUMNS


@dataclass(frozen=True)
class DryRun:
    """A dry run of the command: where it wrote, what it printed, the model, and the server's stages."""

    kind: str
    directory: Path
    printed: str
    loaded: LoadedModel
    stages: Path


@pytest.fixture(scope="module", params=KINDS)
def dry_run(
    request: pytest.FixtureRequest,
    snowpark_ml: Path,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DryRun]:
    """Deploy a promoted model of each kind to the embedded server, without a registry."""
    bucket = make_bucket(s3_server)
    store = ObjectStore(bucket.settings())
    registry = ModelRegistry(store)
    registry.promote(STRATEGY, stored(store, request.param).model_id, Promoter.CHECK, NOON)
    loaded = registry.current(STRATEGY)
    assert isinstance(loaded, LoadedModel)
    directory = tmp_path_factory.mktemp("deployment")
    stages = directory / "stages"
    stages.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        # Where the server keeps the files of stages.
        patch.setenv("TMPDIR", str(stages))
        server = SnowflakeServer(directory / "snowflake", s3_server.endpoint)
        server.start()
    environment = {
        **bucket.environment(),
        "PIPELINE_SNOWFLAKE__PORT": str(server.port),
        "PIPELINE_SNOWFLAKE__USER": USER,
        "PIPELINE_SNOWFLAKE__PASSWORD": PASSWORD,
    }
    command = (str(snowpark_ml), "-m", "pipeline_assets.snowpark_ml", STRATEGY)
    try:
        done = subprocess.run(
            [*command, "--dry-run", str(directory / "written")],
            env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield DryRun(request.param, directory / "written", done.stdout, loaded, stages)
    finally:
        server.kill()


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_recorded_statements_are_golden(dry_run: DryRun) -> None:
    found = comparable((dry_run.directory / "statements.sql").read_text("utf-8"))
    assert found == golden()
    assert "Nothing was deployed" in dry_run.printed


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_staged_files_are_recorded_ones(dry_run: DryRun) -> None:
    """The files on the embedded stage equal the recorded ones byte for byte; no other is there."""
    recorded = dry_run.directory / "files"
    expected = {str(each.relative_to(recorded)): each.read_bytes() for each in files(recorded)}
    staged = {}
    for each in files(dry_run.stages):
        # fakesnow_bucket_…/DATABASE/SCHEMA/STAGE/path
        staged["/".join(each.relative_to(dry_run.stages).parts[4:])] = each.read_bytes()
    assert staged == expected
    digests = (dry_run.directory / "files.sha256").read_text("utf-8").splitlines()
    assert [each.split("  ") for each in digests] == [
        [hashlib.sha256(body).hexdigest(), path] for path, body in sorted(expected.items())
    ]


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_package_predicts_as_inference_does(dry_run: DryRun, clean_environment: Path) -> None:
    """The package's own code, in an environment of its own requirements, gives the same probabilities.

    Nulls are among the inputs, as objects and as pandas' nullable numbers. A linear model's sums are those of
    a matrix in another order in memory, so that a last bit may differ.
    """
    package = dry_run.directory / "files" / "model"
    conda = package / "runtimes" / "python_runtime" / "env" / "conda.yml"
    python = environment_of(conda, clean_environment)
    matrix, _ = examples()
    asked = matrix[:60].copy()
    asked[0, 1:] = asked[:9, -1] = np.nan
    rows = [[None if np.isnan(value) else value for value in row] for row in asked.tolist()]
    done = subprocess.run(
        [str(python), str(HANDLER), str(package)],
        input=json.dumps(rows),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = dry_run.loaded.model.probabilities(asked)
    assert len(set(expected)) > 2
    tolerance = 1e-14 if dry_run.kind.startswith("logistic") else 0
    for answers in json.loads(done.stdout):
        found = [each[names.WON] for each in answers]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def files(directory: Path) -> list[Path]:
    return [each for each in directory.rglob("*") if each.is_file()]
