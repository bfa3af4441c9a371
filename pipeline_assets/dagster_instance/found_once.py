"""Questions that Dagster's storages ask about their tables at every event, asked once: a table, a column or
an index that was found stays there. Where a process keeps what it found is each storage's own.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection


class FoundOnce:
    """The base: a look that found something is not repeated."""

    @abstractmethod
    def _found(self) -> set[str]:
        """Return the names of what was found; the set is kept."""

    def _once(self, name: str, look: Callable[[], bool]) -> bool:
        found = self._found()
        if name not in found and look():
            found.add(name)
        return name in found


class _Index(FoundOnce):
    def has_built_index(self, migration_name: str) -> bool:
        """Return whether an index was built."""
        own: Any = super()
        return self._once(migration_name, lambda: own.has_built_index(migration_name))


class RunTables(_Index):
    """Looks of the storage of runs."""

    def has_run_stats_index_cols(self) -> bool:
        """Return whether the runs' times have columns."""
        own: Any = super()
        return self._once("columns of times", own.has_run_stats_index_cols)

    def has_backfill_id_column(self) -> bool:
        """Return whether the runs' backfills have a column."""
        own: Any = super()
        return self._once("column of backfills", own.has_backfill_id_column)


class ScheduleTables(_Index):
    """Looks of the storage of schedules and sensors."""

    def has_instigators_table(self) -> bool:
        """Return whether schedules and sensors have a table."""
        own: Any = super()
        return self._once("instigators", own.has_instigators_table)

    def _has_instigators_table(self, conn: Connection) -> bool:
        own: Any = super()
        return self._once("instigators", lambda: own._has_instigators_table(conn))


class EventTables(FoundOnce):
    """Looks of the storage of events, two of them for each event of an asset."""

    def has_table(self, table_name: str) -> bool:
        """Return whether the table is there."""
        own: Any = super()
        return self._once(table_name, lambda: own.has_table(table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        # By reading the whole table's description.
        own: Any = super()
        look = own._has_asset_key_col_on_connection
        return self._once(f"column {column_name}", lambda: look(conn, column_name))
