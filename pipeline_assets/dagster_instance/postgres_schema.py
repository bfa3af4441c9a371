"""The check that the tables of Dagster's storage in PostgreSQL are those of the installed Dagster. The tables
are made in postgres_storage.py.

Dagster itself does not look: it begins, and fails later at the first query of a column that is missing.
"""

import click
from sqlalchemy import Connection

from pipeline_assets.dagster_instance.postgres_engine import URL, Address, place
from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.private_apis import private_imports

with private_imports("dagster-postgres", __name__):
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from dagster_postgres import run_storage
    from dagster_postgres.utils import pg_alembic_config

# Commands of `dagster instance` that are there for an old schema.
_COMMANDS = ("migrate", "info")


class StorageOutdatedError(OutsideSystemError):
    """The tables of Dagster's storage are those of an older Dagster. The message names the command to run."""


def require_current_schema(connection: Connection, address: Address) -> None:
    """Refuse tables of an older Dagster, unless this process is there to migrate them.

    Tables of a newer Dagster pass: programs of the old release go on until an upgrade replaces them.

    Args:
        connection: to the database, which has the tables.
        address: the database's, for the message.

    Raises:
        StorageOutdatedError: the tables are those of an older Dagster.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(pg_alembic_config(run_storage.__file__))
    newest = scripts.get_current_head()
    if found == newest or _is_for_old_schema():
        return
    if found is None or any(found == each.revision for each in scripts.walk_revisions()):
        raise StorageOutdatedError(
            f"Dagster's storage, PostgreSQL at {place(address)}, has the tables of an older Dagster "
            f"(revision {found or 'none'}; {newest} is needed). Back the database up, stop Dagster's daemon, "
            f"run `dagster instance migrate` with this program's DAGSTER_HOME and {URL}, then start it again."
        )


def _is_for_old_schema() -> bool:
    running = click.get_current_context(silent=True)
    parent = running.parent if running else None
    group = parent.command.name if parent else None
    return running is not None and group == "instance" and running.command.name in _COMMANDS
