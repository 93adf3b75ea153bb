"""Parquet files: rows of a query, written whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from registry.database import CONFIG, insert_arrays
from registry.errors import RunFailed
from registry.refusal import first_line
from registry.whole_file import whole_file


def write_parquet(
    file: Path, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Write rows to a Parquet file through a database of its own, in memory.

    Args:
        file: to write; replaced if it exists.
        columns: (name, DuckDB type) of each column.
        rows: tuples in the order of ``columns``.

    Raises:
        RunFailed: the file cannot be written; what was there before is there still.
    """
    connection = duckdb.connect(config=dict(CONFIG))
    try:
        definition = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {t}' for name, t in columns)
        connection.execute(f"create table result ({definition})")
        if rows:
            types = [kind for _, kind in columns]
            values = list(zip(types, zip(*rows, strict=True), strict=True))
            insert_arrays(connection, "insert into result", values)
        with whole_file(file) as new:
            connection.table("result").write_parquet(str(new))
    except (duckdb.Error, OSError) as error:
        message = f"{file} cannot be written: {first_line(error)}"
        raise RunFailed(message, hint="choose another file") from error
    finally:
        connection.close()
