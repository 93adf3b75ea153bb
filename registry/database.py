"""The door to DuckDB: connections, locks, migrations, bulk inserts.

One file, many processes, one writer at a time. Every connection here is short: opened, used, closed; a process
that finds the file held waits with growing, jittered pauses and says who holds it when it gives up. Long work
(reading headers, hashing, statistics, merging) never happens while a connection is open.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb

from registry.catalog_file import Config, has_bytes, make
from registry.column import Array, Column, as_array, as_json, as_mask, unicode
from registry.connection import Opened, forget_instance, open_apart, open_to_read, opening, writing
from registry.errors import CatalogMissing
from registry.migration import is_current, migrate
from registry.numbering import settle
from registry.refusal import held_here, is_of_the_disk, translated
from registry.room import prove_room
from registry.spare_blocks import Spare

Row = dict[str, Any]
"""One row: column name → value, columns in the order of the query."""

WAIT_SECONDS = 30.0
"""How long we wait for another process to let the catalog go."""

_OF_THE_FILE = (duckdb.IOException, duckdb.FatalException)
_CELL_BYTES, _CHANGE_BYTES = 128, 512  # of a value that is inserted, and of a row that SQL changes

_NO_CHECKPOINT: Config = {"checkpoint_threshold": "1TB"}


class Reader:
    """One open connection for our own queries: all of them see the same moment."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query; a list among the parameters is for ``store.each(?)``."""
        cursor = self.connection.execute(sql, _bound(parameters))
        names = [str(column[0]) for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def rows_for(
        self, numbers: "Sequence[int] | Array", sql: str, parameters: Sequence[Any] = ()
    ) -> list[Row]:
        """The rows of a query that reads these numbers from a table ``asked``, in its column ``number``; of millions, too."""
        import numpy as np  # noqa: PLC0415 - a third of a reader's start, and not every reader needs it

        self.connection.register("asked", {"number": np.asarray(numbers, dtype=np.int64)})
        try:
            return self.rows(sql, parameters)
        finally:
            self.connection.unregister("asked")

    def arrays(self, sql: str) -> dict[str, Array]:
        """The columns of a query over numbers, none of them NULL."""
        return dict(self.connection.execute(sql).fetchnumpy())


class Transaction(Reader):
    """One open write transaction; made by `Database.write`.

    Attributes:
        n_bytes: that committing it may take, roughly.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, types: dict[str, dict[str, str]]
    ) -> None:
        super().__init__(connection)
        self.n_bytes = 0
        self._types = types

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        result = self.connection.execute(sql, _bound(parameters)).fetchone()
        n_rows = int(result[0]) if result and isinstance(result[0], int) else 0
        self.n_bytes += n_rows * _CHANGE_BYTES
        return n_rows

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
        if table not in self._types:
            none = self.connection.execute(f"select * from store.{table} limit 0").description or ()
            self._types[table] = {str(column[0]): str(column[1]) for column in none}
        types = self._types[table]
        self.n_bytes += len(columns) * len(next(iter(columns.values()))) * _CELL_BYTES
        names = ", ".join(f'"{name}"' for name in columns)
        how = {"nothing": "or ignore ", "replace": "or replace ", "error": ""}[conflict]
        return insert_arrays(
            self.connection,
            f"insert {how}into store.{table} ({names})",
            [(types[name], values) for name, values in columns.items()],
        )

    def insert_lists(
        self, table: str, keys: Mapping[str, Column], lists: Mapping[str, Sequence[Array]]
    ) -> int:
        """Insert rows that hold lists of numbers, or put them in the place of those with the same key.

        Numbers go in as they are; lists among the columns of `insert` are written and read as text, which takes long.

        Args:
            table: as `insert`.
            keys: column name → values, texts; no NULL.
            lists: column name → the list of each row. The lists of a row are of one length, at least 1.
        """
        import numpy as np  # noqa: PLC0415 - a third of a reader's start, and only writers need it

        rows = next(iter(lists.values()))
        if not rows:
            return 0
        flat: dict[str, Array] = {
            f"v{i}": np.concatenate(column) for i, column in enumerate(lists.values())
        }
        flat["place"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        flat["n"] = np.arange(len(flat["place"]))
        self.n_bytes += sum(array.nbytes for array in flat.values())
        one = {
            f"k{i}": as_array("VARCHAR", column, "")[0] for i, column in enumerate(keys.values())
        }
        made = ", ".join(f"list(v{i} order by n) as v{i}" for i in range(len(lists)))
        sql = (
            f"insert or replace into store.{table} ({', '.join([*keys, *lists])}) "
            f"select {', '.join([*one, *list(flat)[: len(lists)]])} from incoming "
            f"join (select place, {made} from numbers group by place) using (place) order by place"
        )
        self.connection.register("incoming", one | {"place": np.arange(len(rows))})
        self.connection.register("numbers", flat)
        try:
            return self.execute(sql)
        finally:
            self.connection.unregister("incoming")
            self.connection.unregister("numbers")


class _Kept(threading.local):
    """What a thread keeps open."""

    wanted = False
    opened: Opened | None = None
    transaction: Transaction | None = None


class Database:
    """The catalog's file.

    Attributes:
        path: of the file; it need not exist before the first write. Of a link, where it leads to: there DuckDB keeps its log.
        wait_seconds: how long we wait for another process to let it go.
    """

    def __init__(self, path: Path, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = Path(os.path.realpath(path)) if os.path.islink(path) else path  # noqa: PTH114 - never raises
        self.wait_seconds = wait_seconds
        self._is_current = False
        self._types: dict[str, dict[str, str]] = {}
        self._kept = _Kept()

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Let the reads of this thread in the block share one connection, until somebody of ours writes.

        An open connection keeps other processes from writing: for moments, not for work.
        """
        if self._kept.wanted:
            yield
            return
        self._kept.wanted = True
        try:
            yield
        finally:
            self._kept.wanted = False
            self.let_go()

    @contextlib.contextmanager
    def as_one(self) -> Iterator[None]:
        """Let what this thread reads and writes in the block be one transaction, so that all of it is kept or nothing.

        It keeps everybody else out: for moments, not for work. Errors as `write`.
        """
        with self.write() as transaction:
            self._kept.transaction = transaction
            try:
                yield
            finally:
                self._kept.transaction = None

    @property
    def is_made(self) -> bool:
        """Whether there is more than an empty file; errors as `registry.catalog_file.has_bytes`."""
        return has_bytes(self.path)

    def let_go(self) -> None:
        """Close what `kept_open` keeps for this thread."""
        if self._kept.opened is not None:
            self._kept.opened.close()
            self._kept.opened = None

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of one of our own read-only queries; as `read`."""
        with self.read() as reader:
            return reader.rows(sql, parameters)

    @contextlib.contextmanager
    def read(self, config: Config | None = None) -> Iterator[Reader]:
        """A short read-only connection to a catalog of today's version.

        Raises:
            CatalogMissing: there is no catalog yet.
            CatalogLocked: a writer held it for longer than we wait.
            CatalogTooNew: the catalog was written by a newer Homolog.
            CatalogDamaged: the file cannot be opened or read.
        """
        if self._kept.transaction is not None and not config:
            yield self._kept.transaction
            return
        if not has_bytes(self.path):
            message = f"there is no catalog at {self.path}"
            raise CatalogMissing(message, hint="reg scan PATH makes one")
        keeps = self._kept.wanted and not config
        opened = (self._kept.opened if keeps else None) or self._opened(config)
        try:
            if not self._is_current and not is_current(opened.connection):
                opened.close()
                with self.write():
                    pass  # brings it up to date
                opened = self._opened(config)
            self._is_current = True
            yield Reader(opened.connection)
        except _OF_THE_FILE as error:
            keeps = False
            self.let_go()
            forget_instance()
            raise translated(error, self.path) from error
        finally:
            if keeps:
                self._kept.opened = opened
            else:
                opened.close()

    def _opened(self, config: Config | None) -> Opened:
        """A connection that only reads; with settings, of its own."""
        if config:
            return open_apart(self.path, self.wait_seconds, read_only=True, config=config)
        return open_to_read(self.path, self.wait_seconds)

    @contextlib.contextmanager
    def look(self) -> Iterator[Reader]:
        """A short read-only connection to the file as it is, of whatever version; nothing is brought up to date.

        Raises:
            CatalogLocked, CatalogDamaged: as `read`.
        """
        opened = open_apart(self.path, self.wait_seconds, read_only=True, config={})
        try:
            yield Reader(opened.connection)
        except _OF_THE_FILE as error:
            raise translated(error, self.path) from error
        finally:
            opened.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """One short write transaction; commits at the end of the block, rolls back on any error.

        Raises:
            CatalogLocked: another process held the file for longer than we wait.
            CatalogTooNew: the catalog was written by a newer Homolog.
            CatalogDamaged: the file cannot be opened or made.
            NotEnoughDisk: the transaction does not fit on the disk; nothing of it was kept.
        """
        if self._kept.transaction is not None:
            yield self._kept.transaction
            return
        if not writing.acquire(timeout=self.wait_seconds):
            raise held_here(self.path)
        try:
            with self._transaction() as transaction:
                yield transaction
        finally:
            writing.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """As `write`, once no other thread of ours writes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise translated(error, self.path) from error
        make(self.path, self.wait_seconds)
        self.let_go()
        while True:
            with self._open_to_write() as connection:
                if is_current(connection):
                    yield from self._committed(connection)
                    return
                migrate(connection, self.path)

    def _committed(self, connection: duckdb.DuckDBPyConnection) -> Iterator[Transaction]:
        """A transaction, which is committed when all went well."""
        connection.begin()
        try:
            transaction = Transaction(connection, self._types)
            yield transaction
            settle(connection)
            prove_room(self.path, transaction.n_bytes)
            connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # a commit that failed has ended it already
                connection.rollback()
            raise

    @contextlib.contextmanager
    def _open_to_write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose changes are in the log until the end, and then by one checkpoint in the file.

        No second one: what is copied are the blocks as the last one left them. And none by closing: that would lose what
        is in the log of a process that was killed from all indexes but those of keys (DuckDB's issue 23788).
        """
        opened = open_apart(self.path, self.wait_seconds, read_only=False, config=_NO_CHECKPOINT)
        connection = opened.connection
        spare = Spare(self.path)
        try:
            connection.execute("pragma disable_checkpoint_on_shutdown")
            spare.keep(connection)
            yield connection
            with contextlib.suppress(duckdb.Error):  # what is committed is in the log
                connection.execute("checkpoint")
        except duckdb.Error as error:
            if isinstance(error, _OF_THE_FILE) or is_of_the_disk(error):
                raise translated(error, self.path) from error
            raise
        finally:
            with opening:
                opened.close()
                spare.close()


def _bound(parameters: Sequence[Any]) -> list[Any]:
    """Parameters as DuckDB takes them fast: a list as JSON text, for its own binding costs 0.2 ms a value."""
    as_text = (as_json(p) if isinstance(p, list | tuple) else p for p in parameters)
    return [unicode(p) if isinstance(p, str) else p for p in as_text]


def insert_arrays(
    connection: duckdb.DuckDBPyConnection, head: str, columns: Sequence[tuple[str, Column]]
) -> int:
    """Insert columns of (type, values) through numpy arrays, with an array that says where one is NULL.

    Args:
        connection: to write to.
        head: an ``insert into``, without its rows.
        columns: of equal length.

    Returns:
        Rows that went in.
    """
    arrays: dict[str, Any] = {}
    parts = []
    for i, (kind, values) in enumerate(columns):
        arrays[f"v{i}"], part = as_array(kind, values, f"v{i}")
        if None in values:
            arrays[f"k{i}"] = as_mask(values)
            part = f"case when k{i} then {part} end"
        parts.append(part)
    connection.register("incoming", arrays)
    try:
        sql = f"{head} select {', '.join(parts)} from incoming"
        result = connection.execute(sql).fetchone()
    finally:
        connection.unregister("incoming")
    return int(result[0]) if result else 0
