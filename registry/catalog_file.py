"""The catalog's file: whether it is there, how it comes into being, and how DuckDB is told to open it."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from registry.errors import CatalogDamaged, CatalogLocked
from registry.migration import migrate
from registry.refusal import is_of_the_disk, translated
from registry.whole_file import put_in_place

Config = dict[str, str | bool | int | float | list[str]]
"""Settings of a connection, as DuckDB names them."""

CONFIG: Config = {"dynamic_or_filter_threshold": 1_000, "pandas_analyze_sample": 0}
"""A join with so many known values looks them up in an index; the default of 50 reads whole tables instead.
Of an array of objects DuckDB does not guess the type, 20 times as slow; all of ours are text."""

_NAME_DIGITS = 50  # of a long name, so that ours beside it is not too long
_PAUSE_SECONDS = 0.01


@contextlib.contextmanager
def opened(path: Path, catalog: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that nobody else knows, as it is; made where there is none.

    Args:
        path: of its file.
        catalog: that its rows are of, or for, which is what a person knows.

    Raises:
        NotEnoughDisk: there is no room, if ``catalog`` says whose; else DuckDB's own error.
    """
    try:
        with contextlib.closing(duckdb.connect(str(path), config=dict(CONFIG))) as connection:
            yield connection
    except duckdb.Error as error:
        if catalog is None or not is_of_the_disk(error):
            raise
        raise translated(error, catalog) from error


def has_bytes(path: Path) -> bool:
    """Tell whether there is more than an empty file.

    Raises:
        CatalogDamaged: there is something else, or we may not look.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise translated(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        message = f"catalog {path} is no file"
        raise CatalogDamaged(message, hint="name another place in REG_CATALOG")
    return status.st_size > 0


def make(path: Path, wait_seconds: float) -> None:
    """Make a catalog where there is none, or an empty file such as `mktemp` makes, which DuckDB refuses.

    It is made whole under another name, so that of several processes that begin at once none sees half a catalog,
    and all but one find that it is there. Only who holds the lock makes one, in the place of what the killed left.

    Args:
        path: of the catalog.
        wait_seconds: how long to wait for another process that makes one in this folder.

    Raises:
        CatalogLocked: that took longer.
        CatalogDamaged, NotEnoughDisk: it cannot be made.
    """
    if has_bytes(path):
        return
    new = path.with_name(f".{path.name[:_NAME_DIGITS]}.new")
    files = (new, new.with_name(f"{new.name}.wal"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, wait_seconds):
            if has_bytes(path):
                return
            _remove(files)
            try:
                fill(new, path)
                put_in_place(new, path)
            except (OSError, duckdb.Error):
                _remove(files)
                raise
    except (OSError, duckdb.Error) as error:
        raise translated(error, path) from error


def fill(new: Path, path: Path) -> None:
    """Make an empty catalog of today's version in a new file; ``path``: what it is called in errors."""
    with opened(new) as connection:
        migrate(connection, path)
        connection.execute("checkpoint")  # closing says nothing when it cannot


def _remove(files: tuple[Path, ...]) -> None:
    """Remove files that may be there, and whose names may be too long for the file system."""
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()


@contextlib.contextmanager
def _alone(path: Path, wait_seconds: float) -> Iterator[None]:
    """Let no other process be in such a block for a catalog in the same folder; no longer than we wait for anybody."""
    deadline = time.monotonic() + wait_seconds
    lock = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    message = f"catalog {path} is being made by another process"
                    raise CatalogLocked(message, hint="wait for it, or stop it") from error
            time.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(lock)
