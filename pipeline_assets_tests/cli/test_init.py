"""The files with which the product runs outside a clone."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline_assets.cli.init import FILES
from pipeline_assets.cli.main import cli
from pipeline_assets.local.environment import REPOSITORY, configuration_file


def run(directory: Path) -> Result:
    return CliRunner().invoke(cli, ["init", str(directory)])


def test_init_writes_the_repositorys_files(tmp_path: Path) -> None:
    done = run(tmp_path / "new" / "place")
    assert done.exit_code == 0, done.output
    for name in FILES:
        assert f"written  {tmp_path / 'new' / 'place' / name}" in done.output
        written = (tmp_path / "new" / "place" / name).read_text("utf-8")
        assert written == (REPOSITORY / name).read_text("utf-8")


def test_init_keeps_edited_files(tmp_path: Path) -> None:
    """A repeat completes what is missing, and changes no file."""
    (tmp_path / "config.yaml").write_text("symbols: all\n")
    done = run(tmp_path)
    assert f"kept     {tmp_path / 'config.yaml'}" in done.output
    assert (tmp_path / "config.yaml").read_text() == "symbols: all\n"
    assert (tmp_path / "workspace.yaml").exists()


def test_init_names_a_refused_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "below")
    assert done.exit_code == 1
    assert f"{tmp_path / 'file' / 'below'} cannot be made" in str(done.exception)


def test_init_names_a_place_without_write_access() -> None:
    """The kernel refuses files in this directory to every user, root too, as on a read-only disk."""
    said = str(run(Path("/sys")).exception)
    assert said.startswith("/sys/config.yaml was not written: ")
    assert "Name a place that you may write to instead of /sys, then" in said
    assert "room" not in said


def test_stack_takes_the_directorys_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like config.yaml, Dagster's files are those of the current directory, or else the package's own."""
    monkeypatch.chdir(tmp_path)
    own = configuration_file("dagster.yaml")
    assert own.read_text("utf-8") == (REPOSITORY / "dagster.yaml").read_text("utf-8")
    run(tmp_path)
    assert configuration_file("dagster.yaml") == tmp_path / "dagster.yaml"
