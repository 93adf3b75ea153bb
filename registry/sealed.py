"""SQL of users: one SELECT at a time, read-only, sealed off from the machine.

The statement runs in a process of its own (`registry.cell`) on a connection that can read the catalog and nothing
else: no files, no extensions, no settings, bounded memory, no spilling to disk, bounded time. A statement that
crashes DuckDB, or that DuckDB cannot stop, ends with that process and leaves ours as it was.
"""

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from registry import errors
from registry.cell import ALLOWED, HEAD_BYTES, NARROW
from registry.column import unicode
from registry.database import Database
from registry.errors import BadSql
from registry.names import printable
from registry.parquet import write_parquet

MAX_SECONDS = 60.0
"""How long one statement may take."""

MAX_VALUES = 20_000_000
"""How many values (rows times columns) a result may have: about 2 GB of Python objects."""

MAX_CHARACTERS = 1_000_000
"""How long a statement may be."""

_START = (
    "import json, sys; asked = json.load(sys.stdin); sys.path[:] = asked.pop('path'); "
    "from registry.cell import serve; serve(asked.pop('catalog'), **asked)"
)
_KEPT = ("TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the cell gets of our environment: the user's time zone, and what Python may need to start."""

_VALUES = {
    ("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")
} | {
    ("decimal", "Decimal"), ("uuid", "UUID"), ("uuid", "SafeUUID"), ("pytz", "_UTC"), ("pytz", "_p"),
}  # fmt: skip
"""Classes of values that a result can hold beside Python's own."""


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
        BadSql: DuckDB cannot parse, bind or finish it within memory and time; it or its result is too large.
        CatalogMissing: there is no catalog.
        CatalogLocked: a writer held it for longer than we wait.
    """
    if len(sql) > MAX_CHARACTERS:
        message = f"the statement has {len(sql):,} characters; at most {MAX_CHARACTERS:,} are read"
        raise BadSql(message, hint=ALLOWED)
    if unicode(sql) != sql:
        message = f"the statement is not UTF-8: {printable(sql)[:200]}"
        raise BadSql(message, hint=ALLOWED)
    asked = {
        "path": [place for place in (str(Path(__file__).parents[1]), *sys.path) if place],
        "catalog": str(database.path),
        "sql": sql,
        "wait_seconds": database.wait_seconds,
        "max_seconds": max_seconds,
        "max_values": max_values,
    }
    cell = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-I", "-S", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    try:
        return _answer(cell, json.dumps(asked).encode(), max_seconds)
    finally:
        with cell:  # after Ctrl-C, and after an error, it has nothing to finish
            cell.kill()


def _answer(cell: subprocess.Popen[bytes], asked: bytes, max_seconds: float) -> Result:
    """What the cell makes of a statement."""
    columns: tuple[tuple[str, str], ...] = ()
    rows: list[tuple[Any, ...]] = []
    stdin, stdout = cast("IO[bytes]", cell.stdin), cast("IO[bytes]", cell.stdout)
    with contextlib.suppress(BrokenPipeError), stdin:  # one that died says so below
        stdin.write(asked)
    for kind, value in _parts(stdout):
        if kind == "columns":
            columns = tuple(value)
        elif kind == "rows":
            rows += value
        elif kind == "end":
            return Result(columns, rows)
        elif kind == "error":
            name, message, hint = value
            raise getattr(errors, name)(message, hint=hint)
        else:
            raise RuntimeError(value)
    raise _dead(cell.wait(), max_seconds)


def _parts(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """The parts of an answer as they come; fewer when the cell died."""
    while len(head := stream.read(HEAD_BYTES)) == HEAD_BYTES:
        n = int.from_bytes(head, "big")
        part = stream.read(n)
        if len(part) < n:
            return
        yield _Values(io.BytesIO(part)).load()


class _Values(pickle.Unpickler):
    """Reads values and nothing that could act."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of a value."""
        if (module, name) not in _VALUES:
            message = f"{module}.{name} is no value of a query"
            raise pickle.UnpicklingError(message)
        return super().find_class(module, name)


def _dead(code: int, max_seconds: float) -> BadSql:
    """Why a cell ended without an answer."""
    if code == -signal.SIGALRM:
        message = f"the statement took longer than {max_seconds:g} seconds"
    elif code < 0:
        message = f"the statement ended DuckDB's process with {signal.Signals(-code).name}"
    else:
        message = f"the statement's process could not start (exit code {code})"
    return BadSql(message, hint=NARROW)
