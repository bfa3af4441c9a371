"""Every exception of the product is in the tree of pipeline_assets/errors.py, which commands print."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pipeline_assets
from pipeline_assets.cli import main as command_line
from pipeline_assets.errors import DataError, InputError, InternalError, OutsideSystemError

PACKAGE = Path(pipeline_assets.__file__).parent
# Programs of their own: import-linter forbids them this package, so they cannot use its exceptions.
APART = ("airflow_dags", "local/airflow_plugins", "local/exchange")
BRANCHES = {"InputError", "OutsideSystemError", "DataError", "InternalError"}


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield every class of the product with the path of its module, nested ones too."""
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        if not path.startswith(APART):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield path, node


def ancestors(name: str, bases: dict[str, set[str]]) -> set[str]:
    return {name}.union(*(ancestors(base, bases) for base in bases.get(name, ())))


def test_every_exception_is_in_tree() -> None:
    """Every exception is in one branch of the tree."""
    found = list(classes())
    bases: dict[str, set[str]] = {}
    for _, node in found:
        names = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
        bases.setdefault(node.name, set()).update(names)
    exceptions = {
        f"{path}: {node.name}": ancestors(node.name, bases)
        for path, node in found
        if any(name.endswith(("Error", "Exception")) for name in ancestors(node.name, bases))
    }
    outside = {
        name
        for name, above in exceptions.items()
        if not name.startswith("errors.py") and len(above & BRANCHES) != 1
    }
    assert outside == set(), "derive these from a branch of pipeline_assets/errors.py"
    assert len(exceptions) > 30


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Provide the program, whose command raises."""

    def run(error: Exception) -> None:
        def command() -> None:
            raise error

        monkeypatch.setattr(command_line, "cli", command)
        monkeypatch.setattr(command_line, "complete_environment", lambda: None)
        command_line.main()

    return run


@pytest.mark.parametrize(
    ("branch", "status"),
    [(InputError, 2), (OutsideSystemError, 1), (DataError, 1), (InternalError, 1)],
)
def test_a_foreseen_error_is_one_message(
    failing: Callable[[Exception], None],
    branch: type[Exception],
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        failing(branch("S3 at http://h: no answer. Start it."))
    assert left.value.code == status
    assert capsys.readouterr() == ("", "Error: S3 at http://h: no answer. Start it.\n")


def test_any_other_exception_shows_its_traceback(failing: Callable[[Exception], None]) -> None:
    with pytest.raises(KeyError):
        failing(KeyError("a bug"))
