"""SQL of users: one SELECT at a time, read-only, sealed off from the machine.

The connection can read the catalog and nothing else: no files, no extensions, no settings, bounded memory, no
spilling to disk, bounded time. The statement is refused by its kind before it is run, and DuckDB's own lock
refuses what a SELECT may still try.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb

from registry.database import Config, Database
from registry.errors import BadSql, SqlRefused
from registry.parquet import write_parquet

MAX_SECONDS = 60.0
"""How long one statement may take."""

MAX_VALUES = 20_000_000
"""How many values (rows times columns) a result may have: about 2 GB of Python objects."""

_ROWS_AT_ONCE = 10_000

_SEAL: Config = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": "1GB",
    "threads": 2,
    "temp_directory": "",
    "max_temp_directory_size": "0KiB",
}

_ALLOWED = ("SELECT", "EXPLAIN")
_WHAT_IS_ALLOWED = "reg sql runs one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) on the catalog and changes nothing"


@dataclass(frozen=True)
class Result:
    """Rows of a query.

    Attributes:
        columns: (name, DuckDB type) in order.
        rows: tuples in the order of the query.
    """

    columns: tuple[tuple[str, str], ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> Iterator[dict[str, Any]]:
        """Each row as column → value."""
        names = [name for name, _ in self.columns]
        return (dict(zip(names, row, strict=True)) for row in self.rows)

    def write_parquet(self, file: Path) -> None:
        """Write the rows to a Parquet file, replacing it."""
        write_parquet(file, self.columns, self.rows)


def query(
    database: Database,
    sql: str,
    *,
    max_seconds: float = MAX_SECONDS,
    max_values: int = MAX_VALUES,
) -> Result:
    """Run one read-only statement of a user.

    Raises:
        SqlRefused: the statement would do more than read the catalog.
        BadSql: DuckDB cannot parse, bind or finish it within memory and time; the result is too large.
        CatalogMissing: there is no catalog.
    """
    with database.read(_SEAL) as reader:
        connection = reader.connection
        connection.execute("set lock_configuration = true")
        _refuse_other_kinds(connection, sql)
        timer = Timer(max_seconds, connection.interrupt)
        timer.start()
        try:
            cursor = connection.execute(sql)
            columns = tuple((str(c[0]), str(c[1])) for c in cursor.description or ())
            return Result(columns, _fetched(cursor, len(columns), max_values))
        except duckdb.PermissionException as error:
            message = f"refused: {_first_line(error)}"
            raise SqlRefused(message, hint=_WHAT_IS_ALLOWED) from error
        except duckdb.InterruptException as error:
            message = f"the statement took longer than {max_seconds:g} seconds"
            raise BadSql(message, hint="narrow it with WHERE or LIMIT") from error
        except duckdb.OutOfMemoryException as error:
            message = f"the statement needs more than {_SEAL['memory_limit']} of memory"
            raise BadSql(message, hint="narrow it with WHERE or LIMIT") from error
        except duckdb.Error as error:
            raise BadSql(
                str(error).strip(), hint="reg sql 'show tables' lists the views"
            ) from error
        except RuntimeError:  # Ctrl-C: the statement would go on, and closing wait for its end
            connection.interrupt()
            raise
        finally:
            timer.cancel()


def _fetched(
    cursor: duckdb.DuckDBPyConnection, n_columns: int, max_values: int
) -> list[tuple[Any, ...]]:
    """All rows, unless they would fill the memory."""
    rows: list[tuple[Any, ...]] = []
    while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
        rows += chunk
        if len(rows) * n_columns > max_values:
            message = f"the result has more than {max_values:,} values"
            raise BadSql(message, hint="narrow it with WHERE or LIMIT")
    return rows


def _refuse_other_kinds(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one reading statement, by kind."""
    try:
        kinds = [
            str(statement.type).rsplit(".", 1)[-1]
            for statement in connection.extract_statements(sql)
        ]
    except duckdb.Error as error:
        raise BadSql(str(error).strip(), hint=_WHAT_IS_ALLOWED) from error
    message = ""
    if not kinds:
        message = "there is no statement"
        raise BadSql(message, hint=_WHAT_IS_ALLOWED)
    if len(kinds) > 1:
        message = f"refused: {len(kinds)} statements in one query"
    elif kinds[0] not in _ALLOWED:
        message = f"refused: {kinds[0]} is not a reading statement"
    if message:
        raise SqlRefused(message, hint=_WHAT_IS_ALLOWED)


def _first_line(error: duckdb.Error) -> str:
    """The first line of what DuckDB said."""
    return str(error).strip().splitlines()[0]
