"""Parquet files, written and read through databases of their own, in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from registry.database import CONFIG, first_line, insert_arrays
from registry.errors import RunFailed


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
