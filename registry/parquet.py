"""Parquet files, written and read through databases of their own, in memory."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from registry.database import CONFIG, DISK, first_line, insert_arrays
from registry.errors import BadExport, NotEnoughDisk, RunFailed


def write_parquet(
    file: Path, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write rows to a Parquet file through a database of its own, in memory.

    Args:
        file: to write; replaced if it exists.
        columns: (name, DuckDB type) of each column.
        rows: tuples in the order of ``columns``.
    """
    connection = duckdb.connect(config=dict(CONFIG))
    try:
        definition = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {t}' for name, t in columns)
        connection.execute(f"create table result ({definition})")
        if rows:
            types = [kind for _, kind in columns]
            values = list(zip(types, zip(*rows, strict=True), strict=True))
            insert_arrays(connection, "insert into result", values)
        connection.table("result").write_parquet(str(file))
    except duckdb.Error as error:
        message = f"{file} cannot be written: {first_line(error)}"
        raise RunFailed(message, hint="choose another file") from error
    finally:
        connection.close()


def columns_of(file: Path) -> list[tuple[str, str]]:
    """(name, DuckDB type) of each column of a Parquet file, as its footer says.

    Raises:
        BadExport: it is no Parquet file.
    """
    with contextlib.closing(duckdb.connect(config=dict(CONFIG))) as connection:
        try:
            found = connection.execute("select * from read_parquet(?) limit 0", [str(file)])
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
            f"insert into {table} by name select * from read_parquet(?)", [str(file)]
        ).fetchone()
    except duckdb.Error as error:
        text = first_line(error)
        if any(words in text for words in DISK):
            message = f"there is no room for {file}: {text}"
            raise NotEnoughDisk(message, hint="free some space") from error
        message = f"{file} cannot be taken in: {text}"
        raise BadExport(message) from error
    return int(row[0]) if row else 0
