"""The cell: a process of its own in which one statement of a user runs, and which it cannot outlive or leave.

DuckDB refuses what reaches out of the catalog, but one call of a function may hold a core for hours without looking
up, take memory that DuckDB does not count, or crash. So the system holds the bounds: an alarm ends the process on
time whatever it does, its memory has a ceiling, and once the catalog is open it can open no other file and write no
byte but its answer. `registry.sealed` starts it and reads what it says.
"""

import contextlib
import os
import pickle
import resource
import signal
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from registry.catalog_file import Config
from registry.database import Database
from registry.errors import BadSql, RegError, SqlRefused
from registry.refusal import first_line

MEMORY = "1GB"
"""What DuckDB may hold."""

MAX_BYTES = 1_000_000_000
"""How many bytes of values a result may have."""

ALLOWED = "reg sql runs one SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) on the catalog and changes nothing"
"""What is said to a user whose statement is refused."""

NARROW = "narrow it with WHERE or LIMIT"
"""What is said to a user whose statement takes too much."""

HEAD_BYTES = 8
"""Length of what stands before each part of an answer: how many bytes it has, big-endian."""

_PROCESS_BYTES = 2 << 30
_ROWS_AT_ONCE = 2_000
_KINDS = ("SELECT", "EXPLAIN")

SEAL: Config = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY,
    "threads": 2,
    "temp_directory": "",
    "max_temp_directory_size": "0KiB",
}
"""Settings of the connection, locked before the statement is read."""

_EVERY_TYPE = (
    "select now(), today(), localtime, uuid(), 1.5::decimal(9, 2), interval 1 day, 'a'::blob, {'a': [1]}, "
    "map {1: 2}, 1::hugeint, '12:00:00+01'::timetz, now()::timestamp, now()::timestamp_ns"
)
"""Python loads what values are made of when it first meets one; afterwards it can open no file."""


def serve(
    catalog: str, *, sql: str, wait_seconds: float, max_seconds: float, max_values: int
) -> None:
    """Run one statement and write to stdout what came of it, in parts: columns, rows…, then end; or an error.

    Args:
        catalog: path of the file.
        sql: what the user typed.
        wait_seconds: for another process that holds the catalog.
        max_seconds: the alarm; it ends this process.
        max_values: of the result; more are an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends us
    answer = _keep_stdout_to_ourselves()
    try:
        with Database(Path(catalog), wait_seconds=wait_seconds).read(SEAL) as reader:
            reader.connection.execute(_EVERY_TYPE).fetchall()
            reader.connection.execute("set lock_configuration = true")
            _close_the_door(max_seconds)
            run(reader.connection, sql, max_values, answer)
    except RegError as error:
        _say(answer, "error", (type(error).__name__, error.message, error.hint))
    except MemoryError:
        _say(answer, "error", (BadSql.__name__, _too_much_memory(), NARROW))
    except Exception:  # noqa: BLE001 - ours, and the parent's to show
        _say(answer, "bug", traceback.format_exc())
    answer.flush()
    os._exit(0)  # DuckDB may still be at work on what was refused


def run(connection: duckdb.DuckDBPyConnection, sql: str, max_values: int, answer: BinaryIO) -> None:
    """Run a statement on a sealed connection and write its columns and rows.

    Raises:
        SqlRefused: the statement would do more than read the catalog.
        BadSql: DuckDB cannot parse, bind or finish it; the result is too large.
    """
    try:
        _refuse_other_kinds(connection, sql)
        cursor = connection.execute(sql)
        columns = [(str(c[0]), str(c[1])) for c in cursor.description or ()]
        _say(answer, "columns", columns)
        n_values = n_bytes = 0
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            n_values += len(rows) * len(columns)
            n_bytes += _say(answer, "rows", rows)
            if n_values > max_values or n_bytes > MAX_BYTES:
                limit = (
                    f"{max_values:,} values" if n_values > max_values else f"{MAX_BYTES:,} bytes"
                )
                message = f"the result has more than {limit}"
                raise BadSql(message, hint=NARROW)
        _say(answer, "end", None)
    except duckdb.PermissionException as error:
        message = f"refused: {first_line(error)}"
        raise SqlRefused(message, hint=ALLOWED) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise BadSql(_too_much_memory(), hint=NARROW) from error
    except (
        duckdb.Error,
        RuntimeError,
    ) as error:  # DuckDB's own text, or what C++ says of bytes that are no text
        raise BadSql(str(error).strip(), hint="reg sql 'show tables' lists the views") from error


def _refuse_other_kinds(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one reading statement, by kind."""
    try:
        kinds = [
            str(statement.type).rsplit(".", 1)[-1]
            for statement in connection.extract_statements(sql)
        ]
    except duckdb.Error as error:
        raise BadSql(str(error).strip(), hint=ALLOWED) from error
    message = ""
    if not kinds:
        message = "there is no statement"
        raise BadSql(message, hint=ALLOWED)
    if len(kinds) > 1:
        message = f"refused: {len(kinds)} statements in one query"
    elif kinds[0] not in _KINDS:
        message = f"refused: {kinds[0].strip('?') or 'this'} is not a reading statement"
    if message:
        raise SqlRefused(message, hint=ALLOWED)


def _too_much_memory() -> str:
    """What is said of a statement that meets either ceiling."""
    return f"the statement needs more than {MEMORY} of memory"


def _keep_stdout_to_ourselves() -> BinaryIO:
    """The stream of answers; whatever else writes to stdout or stderr, DuckDB's log among it, writes to nothing."""
    answer = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answer


def _close_the_door(max_seconds: float) -> None:
    """Set the alarm and the bounds that the system keeps. What a system does not know it does not keep."""
    for kind, most in (
        ("RLIMIT_DATA", _PROCESS_BYTES),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),  # no byte into any file
        ("RLIMIT_NOFILE", 0),  # no further file, socket or directory
    ):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, kind), (most, most))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.signal(
        signal.SIGALRM, signal.SIG_DFL
    )  # ends the process, also inside of a call of DuckDB
    signal.setitimer(signal.ITIMER_REAL, max_seconds)


def _say(answer: BinaryIO, kind: str, value: Any) -> int:
    """Write one part of the answer; how many bytes it has."""
    part = pickle.dumps((kind, value), protocol=5)
    answer.write(len(part).to_bytes(HEAD_BYTES, "big"))
    answer.write(part)
    answer.flush()
    return len(part)
