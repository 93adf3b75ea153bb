"""Salvage: what can still be read of a catalog's file, copied into a new one.

DuckDB checks every block that it reads. What it refuses is left out, as little as can be: of a table a range of rows, of
these the values of a column that may be missing. A file that does not open may do so without its write-ahead log, or as it
was at the checkpoint before the last: a file has two headers, which are written in turns, and the blocks of the older
one are given free only after the newer one is written. The file itself is never written to.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from registry.catalog_file import opened
from registry.migration import migrate
from registry.refusal import first_line, is_of_the_disk, translated
from registry.resources import migrations
from registry.scratch import scratch
from registry.whole_file import put_in_place, sync

WAL = ".wal"
"""How DuckDB's write-ahead log is called: as its file, and this behind it."""

MAGIC = slice(8, 12)
"""Where a DuckDB file says that it is one."""

_OURS = {
    "setting": "key <> 'views'",
    "migration": "version in (select version from store.migration)",
}
"""Rows of tables whose others belong to the old file alone."""

_HOW = {"migration": "or replace ", "tensor": ""}
"""What is done with a row whose key another has, where it is not left out; tensors have no index that could tell."""

_HEADERS = (4096, 8192)
_HEADER_BYTES = 4096
_ITERATION = slice(8, 16)
_GROUP_ROWS = 122_880
_LEAST_ROWS = 2_048


@dataclass(frozen=True)
class Source:
    """A file that DuckDB opens, in the place of one that it may not.

    Attributes:
        file: it, or what stands for it.
        without: what was left out, in words; empty: nothing.
    """

    file: Path
    without: str


@dataclass
class Loss:
    """What became of one table.

    Attributes:
        table: without its schema.
        kept: rows that were copied.
        lost: rows that could not be read.
        refused: rows that have the key of another, or no value where one must be.
        blank: columns of which some values could not be read, and are missing now.
    """

    table: str
    kept: int = 0
    lost: int = 0
    refused: int = 0
    blank: set[str] = field(default_factory=set)


@contextlib.contextmanager
def source_of(path: Path) -> Iterator[Source | None]:
    """What can be opened of a catalog's file, from the most to the least; None: nothing can.

    Raises:
        NotEnoughDisk, CatalogDamaged: beside it there can be nothing to try it with.
    """
    with scratch(path) as folder:
        try:
            found = next((Source(*way) for way in _ways(path, folder) if _opens(way[0])), None)
        except OSError as error:
            raise translated(error, path) from error
        yield found


def _ways(path: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """Files to try, and what each leaves out."""
    yield path, ""
    bare = folder / "bare.duckdb"
    try:
        os.link(path, bare)  # its write-ahead log would be beside this name
    except OSError:  # no links here
        shutil.copyfile(path, bare)
    yield bare, "what its write-ahead log holds"
    for i, (header, without) in enumerate(_headers(path)):
        other = folder / f"header-{i}.duckdb"
        shutil.copyfile(path, other)
        with other.open("r+b") as file:
            for at in _HEADERS:
                file.seek(at)
                file.write(header)
        yield other, without


def _opens(file: Path) -> bool:
    """Tell whether DuckDB opens a file and finds its tables."""
    try:
        with contextlib.closing(duckdb.connect(str(file), read_only=True)) as connection:
            connection.execute("select count(*) from duckdb_columns()").fetchall()
    except duckdb.Error:
        return False
    return True


def _headers(path: Path) -> list[tuple[bytes, str]]:
    """The two headers of a file and what each leaves out, the newer one first; none of a file that is too short.

    They are numbered one after the other. If they are not, one of them was overwritten, most probably the one with the larger
    number, and nobody knows whether it was the newer one.
    """
    with path.open("rb") as file:
        start = file.read(_HEADERS[1] + _HEADER_BYTES)
    if start[MAGIC] != b"DUCK" or len(start) < _HEADERS[1] + _HEADER_BYTES:
        return []
    headers = [start[at : at + _HEADER_BYTES] for at in _HEADERS]
    older, newer = sorted(headers, key=_number)
    between = "what was written between its last two checkpoints, and since"
    if _number(newer) - _number(older) == 1:
        return [(newer, ""), (older, between)]
    return [(older, f"it may be {between}"), (newer, "")]


def _number(header: bytes) -> int:
    """The number of a header."""
    return int.from_bytes(header[_ITERATION], "little")


def unreadable_tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """The tables of which not every value can be read, each with what DuckDB says."""
    rows = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'store' order by 1"
    ).fetchall()
    found = []
    for (name,) in rows:
        try:
            connection.execute(f"select bit_xor(hash(t)) from store.{name} t").fetchall()
        except duckdb.Error as error:
            found.append((name, first_line(error)))
    return found


def copied(source: Path, new: Path, version: int, catalog: Path) -> list[Loss]:
    """Copy all rows that can be read into a new catalog.

    Args:
        source: a file that DuckDB opens.
        new: to make; of the structure that migrations give.
        version: of the source's schema; 0: it does not say.
        catalog: whose rows they are, which errors name.

    Returns:
        What became of each table, in order of their names.

    Raises:
        NotEnoughDisk: they do not fit.
    """
    newest = migrations()[-1][0]
    with opened(new, catalog) as connection:
        migrate(connection, new, None if version in (0, newest) else version)
        quoted = str(source).replace("'", "''")
        connection.execute(f"attach '{quoted}' as broken (read_only)")
        tables = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'store' and database_name <> 'broken' order by 1"
        ).fetchall()
        losses = [_Table(connection, name).copied() for (name,) in tables]
        connection.execute("detach broken")
        connection.execute("checkpoint")  # closing says nothing when it cannot
    return losses


class _Table:
    """One table on its way from one file into the other."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self._connection = connection
        self._loss = Loss(name)
        self._wanted = self._columns("database_name <> 'broken'")
        self._there = self._columns("database_name = 'broken'").keys()

    def _columns(self, where: str) -> dict[str, tuple[str, bool]]:
        """Type of each column, and whether a value must be there."""
        rows = self._connection.execute(
            "select column_name, data_type, not is_nullable from duckdb_columns() "
            f"where schema_name = 'store' and table_name = ? and {where} order by column_index",
            [self._loss.table],
        ).fetchall()
        return {name: (kind, needed) for name, kind, needed in rows}

    def copied(self) -> Loss:
        """Copy what can be read."""
        needed = {name for name, (_, is_needed) in self._wanted.items() if is_needed}
        names = [name for name in self._wanted if name in self._there]
        n_rows, last = self._sizes()
        if not needed <= self._there:
            self._loss.lost = n_rows
        elif n_rows and not self._insert(0, last, names):
            for start in range(0, last + 1, _GROUP_ROWS):
                self._bisect(start, min(start + _GROUP_ROWS - 1, last), names)
        self._loss.refused = max(0, n_rows - self._loss.kept - self._loss.lost)
        return self._loss

    def _sizes(self) -> tuple[int, int]:
        """How many rows there are, and the number of the last one."""
        if not self._there:
            return 0, -1
        table = f"broken.store.{self._loss.table}"
        n_rows = self._value(
            f"select count(*) from {table} where {_OURS.get(self._loss.table, 'true')}"
        )
        last = self._value(f"select max(rowid) from {table}")
        return n_rows or 0, n_rows - 1 if last is None and n_rows else last or 0

    def _value(self, sql: str) -> int | None:
        """One number; None where it cannot be read. What cannot be written for want of room is not lost."""
        try:
            row = self._connection.execute(sql).fetchone()
        except duckdb.Error as error:
            if is_of_the_disk(error):
                raise
            return None
        return None if row is None or row[0] is None else int(row[0])

    def _bisect(self, first: int, last: int, names: Sequence[str]) -> None:
        """Copy a range of rows; if it cannot be read, without columns that may be missing, or in halves."""
        if self._insert(first, last, names):
            return
        readable = [name for name in names if self._reads(name, first, last)]
        blank = {name for name in names if name not in readable}
        if not any(self._wanted[name][1] for name in blank) and self._insert(first, last, readable):
            self._loss.blank |= blank
        elif last - first < _LEAST_ROWS:
            n = self._value(
                f"select count(*) from broken.store.{self._loss.table} where rowid between {first} and {last}"
            )
            self._loss.lost += last - first + 1 if n is None else n
        else:
            half = (first + last) // 2
            self._bisect(first, half, names)
            self._bisect(half + 1, last, names)

    def _reads(self, name: str, first: int, last: int) -> bool:
        """Tell whether a column of a range can be read."""
        sql = (
            f'select count(hash("{name}")) from broken.store.{self._loss.table} '
            f"where rowid between {first} and {last}"
        )
        return self._value(sql) is not None

    def _insert(self, first: int, last: int, names: Sequence[str]) -> bool:
        """Copy a range of rows; False if it cannot be read."""
        table = self._loss.table
        cast = ", ".join(f'try_cast("{n}" as {self._wanted[n][0]}) as "{n}"' for n in names)
        needed = [f'"{n}" is not null' for n in names if self._wanted[n][1]]
        where = " and ".join([*needed, _OURS.get(table, "true")])
        how = _HOW.get(table, "or ignore ")
        listed = ", ".join(f'"{n}"' for n in names)
        sql = (
            f"insert {how}into store.{table} ({listed}) select {listed} from (select {cast} "
            f"from broken.store.{table} where rowid between {first} and {last}) where {where}"
        )
        n_rows = self._value(sql)
        if n_rows is None:
            return False
        self._loss.kept += n_rows
        return True


def stamped(path: Path, why: str) -> Path:
    """A name beside a file that nothing has yet: its own, why, and the time."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    names = (path.with_name(f"{path.name}.{why}-{stamp}{more}") for more in ("", *map("-{}".format, range(2, 100))))  # fmt: skip
    return next(name for name in names if not name.exists())


def keep_copy(path: Path) -> Path:
    """Copy a catalog's file, and its write-ahead log, beside it; return where the copy is.

    The file comes last: whoever has a lock on it loses it when a copy is done.

    Raises:
        NotEnoughDisk, CatalogDamaged: the operating system refuses; there is no copy.
    """
    copy = stamped(path, "before-repair")
    made = [(path.with_name(path.name + WAL), copy.with_name(copy.name + WAL)), (path, copy)]
    try:
        for old, new in made:
            if old.exists():
                shutil.copy2(old, new)
                sync(new)
        sync(copy.parent)
    except OSError as error:
        for _, new in made:
            new.unlink(missing_ok=True)
        raise translated(error, path) from error
    return copy


def take_place(new: Path, path: Path) -> Path:
    """Put a new file in the place of a catalog's, which is kept beside it; return where."""
    kept = stamped(path, "damaged")
    wal = path.with_name(path.name + WAL)
    try:
        os.link(path, kept)
    except OSError:  # no links here
        put_in_place(path, kept)
    if wal.exists():
        put_in_place(wal, kept.with_name(kept.name + WAL))
    put_in_place(new, path)
    return kept
