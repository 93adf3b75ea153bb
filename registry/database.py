"""The door to DuckDB: connections, locks, migrations, bulk inserts.

One file, many processes, one writer at a time. Every connection here is short: opened, used, closed; a process
that finds the file held waits with growing, jittered pauses and says who holds it when it gives up. Long work
(reading headers, hashing, statistics, merging) never happens while a connection is open.
"""

import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np

from registry.errors import (
    CatalogDamaged,
    CatalogLocked,
    CatalogMissing,
    CatalogTooNew,
    NotEnoughDisk,
    RegError,
)
from registry.resources import migrations, schema_folder

Row = dict[str, Any]
"""One row: column name → value, columns in the order of the query."""

Column = Sequence[Any]
"""The values of one column; None is NULL."""

WAIT_SECONDS = 30.0
"""How long we wait for another process to let the catalog go."""

_NUMPY_TYPES = {"BIGINT": "int64", "INTEGER": "int32", "SMALLINT": "int16", "DOUBLE": "float64"}


class Transaction:
    """One open write transaction; made by `Database.write`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query, as this transaction sees them."""
        return fetch(self._connection, sql, parameters)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        result = self._connection.execute(sql, _bound(parameters)).fetchone()
        return int(result[0]) if result else 0

    def insert(
        self,
        table: str,
        columns: Mapping[str, Column],
        conflict: Literal["nothing", "replace", "error"] = "error",
    ) -> int:
        """Insert rows given as columns of equal length; return how many rows went in.

        Args:
            table: a table of the schema ``store``, without the schema's name.
            columns: column name → values.
            conflict: what to do with a row whose key exists: keep the old one, replace it, or fail.
        """
        if not columns or not len(next(iter(columns.values()))):
            return 0
        types = {
            str(name): str(kind)
            for name, kind in self._connection.execute(
                "select column_name, data_type from duckdb_columns() "
                "where schema_name = 'store' and table_name = ?",
                [table],
            ).fetchall()
        }
        names = ", ".join(columns)
        how = {"nothing": "or ignore ", "replace": "or replace ", "error": ""}[conflict]
        return _insert_arrays(
            self._connection,
            f"insert {how}into store.{table} ({names})",
            {name: (types[name], values) for name, values in columns.items()},
        )


class Database:
    """The catalog's file.

    Attributes:
        path: of the file; it need not exist before the first write.
    """

    def __init__(self, path: Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self._wait_seconds = wait_seconds
        self._is_current = False

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of one of our own read-only queries.

        Raises:
            CatalogMissing: there is no catalog yet.
            CatalogLocked: a writer held it for longer than we wait.
        """
        with self.read() as connection:
            return fetch(connection, sql, parameters)

    @contextmanager
    def read(
        self, config: Mapping[str, str | bool | int] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A short read-only connection to a catalog of today's version."""
        if not self.path.exists():
            message = f"there is no catalog at {self.path}"
            raise CatalogMissing(message, hint="reg scan PATH makes one")
        connection = self._connect(read_only=True, config=config or {})
        if not self._is_current and not _is_current(connection):
            connection.close()
            with self.write():
                pass
            connection = self._connect(read_only=True, config=config or {})
        self._is_current = True
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One short write transaction; commits at the end of the block, rolls back on any error.

        Raises:
            CatalogLocked: another process held the file for longer than we wait.
            CatalogTooNew: the catalog was written by a newer Homolog.
            NotEnoughDisk: the transaction does not fit on the disk; nothing of it was kept.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect(read_only=False, config={})
        try:
            _migrate(connection, self.path)
            connection.begin()
            try:
                yield Transaction(connection)
                connection.commit()
            except duckdb.FatalException as error:
                raise _translated(error, self.path) from error
            except BaseException:
                connection.rollback()
                raise
        finally:
            connection.close()

    def _connect(
        self, *, read_only: bool, config: Mapping[str, str | bool | int]
    ) -> duckdb.DuckDBPyConnection:
        """Open the file, waiting while another process holds it."""
        deadline = time.monotonic() + self._wait_seconds
        pause = 0.002
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only, config=dict(config))
            except duckdb.Error as error:
                if "lock" not in str(error) or time.monotonic() > deadline:
                    raise _translated(error, self.path) from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - a pause, not a secret
            pause = min(pause * 1.5, 0.1)


def fetch(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()
) -> list[Row]:
    """Run a query and return its rows as dicts; a list among the parameters is for ``store.each(?)``."""
    cursor = connection.execute(sql, _bound(parameters))
    names = [str(column[0]) for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def write_parquet(
    file: Path, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write rows to a Parquet file through a database of its own, in memory.

    Args:
        file: to write; replaced if it exists.
        columns: (name, DuckDB type) of each column.
        rows: tuples in the order of ``columns``.
    """
    connection = duckdb.connect()
    try:
        definition = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {t}' for name, t in columns)
        connection.execute(f"create table result ({definition})")
        if rows:
            values = zip(*rows, strict=True)
            typed = {str(i): (t, v) for i, ((_, t), v) in enumerate(zip(columns, values, strict=True))}
            _insert_arrays(connection, "insert into result", typed)
        connection.table("result").write_parquet(str(file))
    finally:
        connection.close()


def _bound(parameters: Sequence[Any]) -> list[Any]:
    """Parameters as DuckDB takes them fast: a list as JSON text, for its own binding costs 0.2 ms a value."""
    return [json.dumps(p) if isinstance(p, list | tuple) else p for p in parameters]


def _insert_arrays(
    connection: duckdb.DuckDBPyConnection, head: str, columns: Mapping[str, tuple[str, Column]]
) -> int:
    """Insert columns through numpy arrays, each with an array that says where it is NULL."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    parts = []
    for i, (kind, values) in enumerate(columns.values()):
        known = np.fromiter((v is not None for v in values), dtype=bool, count=len(values))
        numpy_type = _NUMPY_TYPES.get(kind)
        if numpy_type:
            filled: Any = [0 if v is None else v for v in values]
            arrays[f"v{i}"] = np.asarray(filled, dtype=numpy_type)
        else:
            filled = ["" if v is None else str(v) for v in values]
            arrays[f"v{i}"] = np.asarray(filled, dtype=object)
        arrays[f"k{i}"] = known
        parts.append(f"case when k{i} then cast(v{i} as {kind}) end")
    # Without this DuckDB looks at every object for its type, 20 times as slow; all of ours are text.
    connection.execute("set pandas_analyze_sample = 0")
    connection.register("incoming", arrays)
    try:
        sql = f"{head} select {', '.join(parts)} from incoming"
        result = connection.execute(sql).fetchone()
    finally:
        connection.unregister("incoming")
    return int(result[0]) if result else 0


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of the schema in the file; 0 for an empty file."""
    tables = connection.execute(
        "select 1 from duckdb_tables() where schema_name = 'store' and table_name = 'migration'"
    ).fetchone()
    if not tables:
        return 0
    found = connection.execute("select max(version) from store.migration").fetchone()
    return int(found[0] or 0) if found else 0


def _is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Tell whether the file has today's tables and views."""
    return _version(connection) == migrations()[-1][0] and _views_digest(connection) == _views()


def _views() -> str:
    """The text of today's views, which is also their identity."""
    files = sorted((schema_folder() / "views").glob("*.sql"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _views_digest(connection: duckdb.DuckDBPyConnection) -> str:
    """The text of the views the file holds; empty for a file without any."""
    if not _version(connection):
        return ""
    found = connection.execute("select value from store.setting where key = 'views'").fetchone()
    return str(found[0]) if found else ""


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the file to today's schema: each migration in one transaction with its own record."""
    found = _version(connection)
    steps = migrations()
    if found > steps[-1][0]:
        message = (
            f"catalog {path} has schema version {found}; this Homolog knows up to {steps[-1][0]}"
        )
        raise CatalogTooNew(message, hint="pip install --upgrade homolog")
    for version, file in steps:
        if version > found:
            connection.begin()
            connection.execute(file.read_text(encoding="utf-8"))
            connection.execute(
                "insert into store.migration values (?, ?, now())", [version, file.stem]
            )
            connection.commit()
    if _views_digest(connection) != _views():
        connection.begin()
        connection.execute(_views())
        connection.execute("insert or replace into store.setting values ('views', ?)", [_views()])
        connection.commit()


def _translated(error: duckdb.Error, path: Path) -> RegError:
    """The error of ours that says what DuckDB said."""
    text = str(error)
    holder = re.search(r"held in (\S+) \(PID (\d+)\)", text)
    if holder:
        message = f"catalog {path} is held by process {holder[2]} ({holder[1]})"
        return CatalogLocked(message, hint=f"wait for process {holder[2]} to end, or stop it")
    if "No space left" in text:
        message = f"the disk of catalog {path} is full; the transaction was not kept"
        return NotEnoughDisk(message, hint="free some space and run the command again")
    message = f"catalog {path} cannot be opened: {text.splitlines()[0]}"
    return CatalogDamaged(message, hint="restore a copy, or move the file away and scan again")
