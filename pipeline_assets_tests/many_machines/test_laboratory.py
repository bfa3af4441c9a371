"""A machine that cannot have hosts in namespaces says what is missing, in place of a skipped test."""

import sys
from pathlib import Path

import pytest

from pipeline_assets_tests.many_machines.__main__ import main
from pipeline_assets_tests.many_machines.laboratory import (
    INSIDE,
    PROGRAMS,
    LaboratoryError,
    wrapped,
)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide the only directory of programs, all of which fail, as where users have no rights."""
    for name in PROGRAMS:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{name}: Operation not permitted' >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", PROGRAMS)
def test_missing_program_is_named(programs: Path, name: str) -> None:
    """The error names the program and the package that has it."""
    (programs / name).unlink()
    with pytest.raises(LaboratoryError, match=f"{name} is missing.* package {PROGRAMS[name]}"):
        wrapped(["true"])


def test_missing_right_is_named(programs: Path) -> None:
    """The error has the system's own words, and the ways to the right."""
    with pytest.raises(
        LaboratoryError, match=r"Operation not permitted.*user.max_user_namespaces.*root"
    ):
        wrapped(["true"])


def test_unknown_case_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name is an error, not an empty table with exit status 0."""
    monkeypatch.setenv(INSIDE, "1")
    monkeypatch.setattr(sys, "argv", ["many_machines", "--only", "brocker"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code
    assert "'brocker'" in capsys.readouterr().err
