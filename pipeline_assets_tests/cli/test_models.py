"""The commands `inference models`, `card`, `promote` and `back`, and what `up` says of models, on S3."""

import io
import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pipeline_assets.cli.main import cli
from pipeline_assets.cli.stack import print_author
from pipeline_assets.errors import PipelineError
from pipeline_assets.resources.current_models import current_key
from pipeline_assets.resources.model_objects import (
    CARD,
    FILE,
    MANIFEST,
    DamagedModelError,
    Manifest,
    model_key,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import InferenceSettings, Settings
from pipeline_assets_tests.fixtures.damage import store_damaged
from pipeline_assets_tests.fixtures.models import DAY, NOON, STRATEGY, stored
from pipeline_assets_tests.fixtures.s3 import S3Bucket

Run = Callable[..., Result]


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


@pytest.fixture
def run(s3_bucket: S3Bucket) -> Run:
    """A command in this process, over the test's bucket."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ("inference", *arguments), env=s3_bucket.environment())

    return run


@pytest.fixture
def pair(store: ObjectStore) -> tuple[Manifest, Manifest]:
    """An older and a newer model of one strategy."""
    return stored(store), stored(store, trained_to=NOON + 7 * DAY)


def listed(run: Run) -> dict[str, str]:
    """Return the state of each model."""
    [found] = json.loads(run("models", "--strategy", STRATEGY, "--json").stdout)
    return {each["model_id"]: each["state"] for each in found["models"]}


def test_promote_then_back(run: Run, pair: tuple[Manifest, Manifest]) -> None:
    """Each command is done once, though it is repeated, until there is no earlier model."""
    older, newer = (each.model_id for each in pair)
    assert listed(run) == {older: "passed", newer: "passed"}
    for model_id in (older, newer):
        done = run("promote", STRATEGY, model_id, "--json")
        assert json.loads(done.stdout) == {
            "strategy": STRATEGY,
            "current": model_id,
            "outcome": "promoted",
        }
    assert "already current" in run("promote", STRATEGY, newer).stdout
    assert listed(run) == {older: "passed", newer: "current"}
    assert f"Current is {older}." in run("back", STRATEGY).stdout
    assert listed(run) == {older: "current", newer: "withdrawn"}
    assert "Current is no model." in run("back", STRATEGY).stdout
    done = run("back", STRATEGY)
    assert done.exit_code == 1
    assert "nothing to go back from" in done.stderr
    assert f"inference models --strategy {STRATEGY}" in done.stderr


def test_table_shows_each_model(run: Run, store: ObjectStore) -> None:
    assert "No model is stored" in run("models").stdout
    stored(store, passes=False, failures=("Worse than never trading.", "Few trades."))
    done = run("models")
    assert "failed its tests. Worse than never trading. Few trades. " in " ".join(
        done.stdout.split()
    )
    assert done.exit_code == 0
    for words in (STRATEGY, "failed", "2026-10-23", "2026-11-22"):
        assert words in done.stdout


def test_reasons_are_in_words(run: Run, pair: tuple[Manifest, Manifest]) -> None:
    """A newcomer reads whether a model decides and why, with figures and their units."""
    older, newer = (each.model_id for each in pair)

    def said() -> str:
        return " ".join(run("models").stdout.split())

    assert said().count("Not promoted, though it passed its tests") == 2
    assert f"inference promote {STRATEGY} {older}" in said()
    run("promote", STRATEGY, older)
    run("promote", STRATEGY, newer)
    assert f"Promoted: it decides about candidates of {STRATEGY}." in said()
    run("back", STRATEGY)
    assert "Not promoted: a person went back from it" in said()


def test_figures_have_units(run: Run, store: ObjectStore) -> None:
    """Returns are percentages of a trade's value, with their interval; a missing figure is left out."""
    named = {"traded_return": 0.0012, "traded_return_low": -0.0002, "traded_return_high": 0.0025}
    counts = {"candidates": 1204.0, "traded": 310.0, "traded_win_rate": 0.54}
    stored(store, metrics={**counts, **named, "calibration_error": 0.021})
    said = " ".join(run("models").stdout.split())
    assert (
        "It would have traded 310 of 1,204 candidates that it had not seen, and 54% of the trades won; "
        "+0.12% (-0.02% to +0.25%) a trade; probability off by 2.1 percentage points." in said
    )
    assert "in % of a trade's value" in said


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("promote", "no_such", "20261122-0123456789ab"), "There is no strategy 'no_such'", 2),
        (("promote", STRATEGY, "20261122-0123456789ab"), "has no model", 2),
        (("promote", STRATEGY, "../../state"), "has no model", 2),
        (("back", "no_such"), "There is no strategy", 2),
        (("models", "--strategy", "no_such"), "There is no strategy", 2),
        (("card", "no_such"), "There is no strategy", 2),
        (("card", STRATEGY, "--model", "../../state"), "has no model", 2),
        (("card", STRATEGY, "--model", "20261122-0123456789ab"), "has no model", 2),
        (("card", STRATEGY), f"`pipeline-assets inference train {STRATEGY}`", 1),
    ],
)
def test_wrong_use_is_refused(
    run: Run, arguments: tuple[str, ...], message: str, status: int
) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, PipelineError)
    assert done.exception.exit_status == status
    assert message in str(done.exception)


def test_damage_is_named(run: Run, store: ObjectStore, pair: tuple[Manifest, Manifest]) -> None:
    """An unreadable manifest or current model is reported beside the others, with exit status 1."""
    older, newer = pair
    run("promote", STRATEGY, older.model_id)
    run("promote", STRATEGY, newer.model_id)
    assert run("models").exit_code == 0
    store.put(model_key(STRATEGY, older.model_id, FILE), b"a" * older.size)
    done = run("back", STRATEGY)
    assert done.exit_code == 1
    assert "SHA-256" in done.stderr
    store.put(model_key(STRATEGY, newer.model_id, MANIFEST), b"{")
    done = run("models")
    assert done.exit_code == 1
    assert newer.model_id in done.stderr
    assert "SHA-256" in done.stderr
    assert older.model_id in done.stdout


def test_card_of_current_or_named(
    run: Run, pair: tuple[Manifest, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a current model, the message says how to get the newest one's card."""
    older, newer = (each.model_id for each in pair)
    monkeypatch.chdir(tmp_path)
    refused = run("card", STRATEGY)
    assert f"inference card {STRATEGY} --model {newer}`" in str(refused.exception)
    assert not list(tmp_path.iterdir())
    run("promote", STRATEGY, older)
    assert f"{older} is in {STRATEGY}-{older}.html." in run("card", STRATEGY).stdout
    assert (tmp_path / f"{STRATEGY}-{older}.html").read_bytes() == b"<p>card"
    file = tmp_path / "own.html"
    assert run("card", STRATEGY, "--model", newer, "--output", str(file)).exit_code == 0
    assert file.read_bytes() == b"<p>card"
    done = run("card", STRATEGY, "--output", str(tmp_path / "none" / "own.html"))
    assert done.exit_code == 2
    assert "there is no directory" in done.stderr


def test_card_opens_in_browser(
    run: Run, pair: tuple[Manifest, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a browser ends with status 1, and the file is there."""
    opened: list[str] = []
    arguments = ("card", STRATEGY, "--model", pair[0].model_id, "--open", "--output")
    file = tmp_path / "a card.html"
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    assert run(*arguments, str(file)).exit_code == 0
    assert opened == [file.as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    done = run(*arguments, str(tmp_path / "other.html"))
    assert done.exit_code == 1
    assert "No browser was found" in done.stderr
    assert (tmp_path / "other.html").exists()


def test_damaged_card_is_refused(
    run: Run, s3_bucket: S3Bucket, pair: tuple[Manifest, Manifest], tmp_path: Path
) -> None:
    """A changed or missing card is named, and nothing is written."""
    key, file = model_key(STRATEGY, pair[0].model_id, CARD), tmp_path / "card.html"
    arguments = ("card", STRATEGY, "--model", pair[0].model_id, "--output", str(file))
    store_damaged(s3_bucket, key, b"<p>card", b"<p>corp")
    changed = run(*arguments).exception
    ObjectStore(s3_bucket.settings()).delete([key])
    missing = run(*arguments).exception
    for error in (changed, missing):
        assert isinstance(error, DamagedModelError)
        assert key in str(error)
    assert not file.exists()


def said(settings: Settings) -> str:
    """Return what `up` and `demo` say about the author of decisions."""
    console = Console(file=io.StringIO(), width=1000)
    print_author(console, settings)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_start_says_who_decides(
    run: Run, s3_bucket: S3Bucket, pair: tuple[Manifest, Manifest]
) -> None:
    """The author of decisions and each strategy's current model are printed."""
    settings = Settings(s3=s3_bucket.settings())
    off = said(settings)
    assert off.startswith("Inference is off: the trader accepts all candidates")
    assert off.endswith("Current models: none yet.\n")
    run("promote", STRATEGY, pair[0].model_id)
    on = said(settings.model_copy(update={"inference": InferenceSettings(enabled=True)}))
    assert on.startswith("Inference is on: each strategy's current model decides")
    assert f"Current models: {STRATEGY} {pair[0].model_id}; none yet of rsi_reversal" in on


def test_damaged_promotion_is_said(
    store: ObjectStore, s3_bucket: S3Bucket, pair: tuple[Manifest, Manifest]
) -> None:
    """A document that cannot be read stops no start."""
    store.put(current_key(STRATEGY), b"{")
    assert "Current models are unknown: " in said(Settings(s3=s3_bucket.settings()))
