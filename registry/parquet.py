"""Parquet files, written and read through databases of their own, in memory."""

import contextlib
import errno
import os
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb

from registry.catalog_file import CONFIG
from registry.column import unicode
from registry.database import insert_arrays
from registry.errors import BadExport, NotEnoughDisk, OutputExists, RunFailed
from registry.refusal import first_line, is_of_the_disk
from registry.whole_file import put_in_place

_PARQUET = b"PAR1"

_FROM = "select * from read_parquet(?, hive_partitioning = false)"
"""The rows of one file: a path is a pattern to DuckDB, and a folder called run=3 would be a column."""


def write_parquet(
    file: Path, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write rows to a Parquet file through a database of its own, in memory, that can write that file and no other.

    The file is made beside its place and put there when it is whole.

    Args:
        file: to write; one that is there is replaced if it is empty or Parquet.
        columns: (name, DuckDB type) of each column.
        rows: tuples in the order of ``columns``.

    Raises:
        OutputExists: something else is there.
        RunFailed: the file cannot be written.
    """
    if unicode(str(file)) != str(file):
        message = f"{file} cannot be written: its name is not UTF-8"
        raise RunFailed(message, hint="choose another file")
    file = file.resolve()
    _refuse_to_replace(file)
    new = file.with_name(f".{file.name}.{uuid4().hex}")
    connection = duckdb.connect(config=dict(CONFIG))
    try:
        connection.execute("set allowed_paths = ?", [[str(new)]])
        connection.execute("set enable_external_access = false")
        definition = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {t}' for name, t in columns)
        connection.execute(f"create table result ({definition})")
        if rows:
            types = [kind for _, kind in columns]
            values = list(zip(types, zip(*rows, strict=True), strict=True))
            insert_arrays(connection, "insert into result", values)
        connection.table("result").write_parquet(str(new))
        put_in_place(new, file)
    except (OSError, duckdb.Error) as error:
        why = first_line(error).replace(str(new), str(file))
        message = f"{file} cannot be written: {why}"
        raise RunFailed(message, hint="choose another file") from error
    finally:
        connection.close()
        new.unlink(missing_ok=True)


def copy_out(connection: duckdb.DuckDBPyConnection, sql: str, file: Path) -> None:
    """Write the rows of a query to a Parquet file.

    Raises:
        OSError: there is no room for it; what else fails has to do with the rows.
    """
    quoted = str(file).replace("'", "''")
    try:
        connection.execute(f"copy ({sql}) to '{quoted}' (format parquet, compression zstd)")
    except duckdb.Error as error:
        if is_of_the_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def columns_of(file: Path) -> list[tuple[str, str]]:
    """(name, DuckDB type) of each column of a Parquet file, as its footer says.

    Raises:
        BadExport: it is no Parquet file.
    """
    with contextlib.closing(duckdb.connect(config=dict(CONFIG))) as connection:
        try:
            found = connection.execute(f"{_FROM} limit 0", [escape(str(file))])
        except duckdb.Error as error:
            message = f"{file} cannot be read: {first_line(error)}"
            raise BadExport(message) from error
        return [(str(column[0]), str(column[1])) for column in found.description or ()]


def read_into(connection: duckdb.DuckDBPyConnection, table: str, file: Path) -> int:
    """Insert all rows of a Parquet file of the same columns into a table; return how many.

    Raises:
        BadExport: it cannot be read, two rows have one key, or a value lacks that must be there.
        NotEnoughDisk: they do not fit.
    """
    try:
        row = connection.execute(
            f"insert into {table} by name {_FROM}", [escape(str(file))]
        ).fetchone()
    except duckdb.Error as error:
        text = first_line(error)
        if is_of_the_disk(error):
            message = f"there is no room for {file}: {text}"
            raise NotEnoughDisk(message, hint="free some space") from error
        message = f"{file} cannot be taken in: {text}"
        raise BadExport(message) from error
    return int(row[0]) if row else 0


def _refuse_to_replace(file: Path) -> None:
    """Let an empty file be replaced and an earlier Parquet file, and neither weights, a catalog nor a device."""
    try:
        if not file.exists() or (file.is_file() and not file.stat().st_size):
            return
        if file.is_file():
            with file.open("rb") as stream:
                if stream.read(len(_PARQUET)) == _PARQUET:
                    return
    except OSError as error:
        message = f"{file} cannot be written: {first_line(error)}"
        raise RunFailed(message, hint="choose another file") from error
    message = f"{file} is there and is no Parquet file; it is not replaced"
    raise OutputExists(message, hint="choose another file")
