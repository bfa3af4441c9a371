"""A deployment without a registry: the statements and files that it would send are recorded, and the server
gets only what it needs to give an answer of the right shape. Deploying itself is in deployment.py.

The temporary stage and the files on it are real, and vanish with the session; no model is made.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline_assets.snowpark_ml.names import METHOD

_PUT = re.compile(r"PUT\s+'([^']+)'\s+'@([^/']+)/?([^']*)'", re.IGNORECASE)
_STAGE = re.compile(r"SNOWPARK_TEMP_STAGE_[A-Z0-9]+")
_CREATED = re.compile(r"CREATE MODEL (\S+) WITH VERSION (\S+)")
_DIRECTORY = re.compile(r"'file://[^']*/")
_PACKAGE = re.compile(r"package_name = '([^']+)'")
_SPECIFICATION = "model/model/model.yaml"


@dataclass
class Recording:
    """The statements and files that a deployment would send.

    Attributes:
        statements: in their order; names that differ from run to run are replaced.
        files: the bytes of each file, by its path on the stage.
        installed: returns the version of a package, which Snowflake is said to have.
    """

    statements: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    installed: Callable[[str], str] = version
    _made: tuple[str, str] | None = None

    def answered(self, statement: str) -> str:
        """Record a statement; return the one that the server executes in its place."""
        plain = statement.strip().rstrip(";")
        put = _PUT.match(plain)
        if put:
            self._keep(Path(unquote(urlsplit(put[1]).path)), put[3])
        self.statements.append(_comparable(plain))
        made = _CREATED.match(plain)
        if made:
            self._made = made[1].rpartition(".")[2], made[2]
        for opening, answer in self._answers(plain).items():
            if re.match(opening, plain, re.IGNORECASE):
                return answer
        # The embedded server knows neither quoted stages nor scoped objects.
        unquoted = re.sub(r"'(@[^']+)'", r"\1", statement) if put else statement
        return unquoted.replace("CREATE SCOPED TEMPORARY", "CREATE TEMPORARY")

    def _keep(self, file: Path, directory: str) -> None:
        self.files[f"{directory.rstrip('/')}/{file.name}"] = file.read_bytes()

    def _answers(self, statement: str) -> dict[str, str]:
        """Return the answers of a real account in their shape, by the opening of a statement."""
        name, made = self._made or ("", "")
        none = "" if self._made else "WHERE FALSE"
        specification = self.files.get(_SPECIFICATION, b"").decode()
        package = _PACKAGE.search(statement)
        held = (package[1], self.installed(package[1])) if package else ("", "")
        done = _row(status="Done.")
        return {
            r"SELECT SYSTEM\$": _row(FEATURES="{}"),
            r"SELECT PACKAGE_NAME": _row(PACKAGE_NAME=held[0], VERSION=held[1]),
            "SHOW MODELS": f"{_row(name=name, comment='', default_version_name=made)} {none}",
            "SHOW VERSIONS": (
                f"{_row(name=made, comment='', metadata='{}', model_spec=specification, aliases='[]')} {none}"
            ),
            "SHOW FUNCTIONS": _row(name=METHOD, return_type="OBJECT"),
            "CREATE MODEL": done,
            "ALTER MODEL": done,
        }


@contextmanager
def recorded() -> Iterator[Recording]:
    """Record what the connector's cursors are given during the block, in place of a registry."""
    from snowflake.connector.cursor import SnowflakeCursor

    recording = Recording()
    execute = SnowflakeCursor.execute

    def answered(self: Any, command: str, *arguments: Any, **options: Any) -> Any:
        return execute(self, recording.answered(command), *arguments, **options)

    SnowflakeCursor.execute = answered
    try:
        yield recording
    finally:
        SnowflakeCursor.execute = execute


def _row(**values: str) -> str:
    columns = (f'{_literal(value)} AS "{name}"' for name, value in values.items())
    return f"SELECT {', '.join(columns)}"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _comparable(statement: str) -> str:
    """Return a statement without the names that differ from run to run."""
    return _DIRECTORY.sub("'file://…/", _STAGE.sub("SNOWPARK_TEMP_STAGE", statement))
