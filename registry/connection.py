"""Connections to catalogs, and which of them this process has: a catalog that is read is attached to an instance of DuckDB.

To start an instance takes five times as long as to attach a file. One instance serves all reads of the process, and has
a file only while somebody reads it, for an attached file is locked against writers.
"""

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from registry.catalog_file import CONFIG, Config
from registry.refusal import is_held, translated
from registry.spare_blocks import mend

writing = threading.Lock()
"""One writer at a time also among the threads of this process, where DuckDB's lock does not tell them apart."""

opening = threading.RLock()
"""A process that closes a file lets go of all its locks on it: nobody opens a catalog while `registry.spare_blocks` does."""


@dataclass
class _Use:
    """How this process has a file open, and how often.

    Attributes:
        shared: the instance that it is attached to; None: others, of which each connection has one.
        name: it is attached under.
        n: connections.
    """

    shared: duckdb.DuckDBPyConnection | None = None
    name: str = ""
    n: int = 0


_uses: dict[str, _Use] = {}
_instances: list[duckdb.DuckDBPyConnection] = []  # one, once somebody read
_of_the_parent: list[duckdb.DuckDBPyConnection] = []
_names = (f"catalog_{number}" for number in itertools.count())
_OTHERWISE = "this process has the file open with a different configuration"


class Opened:
    """An open connection to a catalog; made by `open_to_read` and `open_apart`.

    Attributes:
        connection: whose default database is the catalog.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, key: str, use: _Use) -> None:
        self.connection = connection
        self._key = key
        self._use: _Use | None = use

    def close(self) -> None:
        """Close it, once; whoever closes the last one lets the file go."""
        with opening:
            use, self._use = self._use, None
            if use is None:
                return
            self.connection.close()
            use.n -= 1
            if not use.n:
                _let_go(self._key, use)


def open_to_read(path: Path, wait_seconds: float) -> Opened:
    """A connection that only reads, made fast; others share its settings, so that it must not be told any.

    Args:
        path: of the catalog.
        wait_seconds: for another process, or thread of ours, that holds it.

    Raises:
        CatalogLocked: that took longer.
        CatalogDamaged: the file cannot be opened.
    """
    key = os.path.realpath(path)
    return _waited(path, wait_seconds, lambda: _attached(path, key))


def open_apart(path: Path, wait_seconds: float, *, read_only: bool, config: Config) -> Opened:
    """A connection to an instance of its own, with settings of its own; else as `open_to_read`."""
    key = os.path.realpath(path)
    return _waited(
        path, wait_seconds, lambda: _connected(path, key, read_only=read_only, config=config)
    )


def forget_instance() -> None:
    """Attach nothing more to the instance there is, which a damaged file may have spoilt."""
    with opening:
        _drop_instance()


def _drop_instance() -> None:
    """The same, of who has the lock, or no other thread."""
    _instances.clear()
    for key in [key for key, use in _uses.items() if use.shared]:
        del _uses[key]


def _waited(path: Path, wait_seconds: float, opened: Callable[[], Opened]) -> Opened:
    """Open a file, waiting while somebody else holds it."""
    deadline = time.monotonic() + wait_seconds
    pause = 0.002
    while True:
        try:
            with opening:
                return opened()
        except duckdb.Error as error:
            if not is_held(error) or time.monotonic() > deadline:
                raise translated(error, path) from error
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - a pause, not a secret
        pause = min(pause * 1.5, 0.05)


def _attached(path: Path, key: str) -> Opened:
    """A connection to the file as it is attached, once it is."""
    use = _uses.get(key)
    if use is None:
        if not writing.locked():
            mend(path)
        use = _Use(_instance(path), next(_names))
    if use.shared is None:
        raise duckdb.ConnectionException(_OTHERWISE)
    try:
        if not use.n:
            place = str(path).replace("'", "''")
            use.shared.execute(f"attach '{place}' as {use.name} (read_only)")
        connection = use.shared.cursor()
        connection.execute(f"use {use.name}")
        _uses[key] = use
        use.n += 1
        return Opened(connection, key, use)
    except (KeyboardInterrupt, RuntimeError):  # that leaves a file attached that nobody lets go
        forget_instance()
        raise


def _connected(path: Path, key: str, *, read_only: bool, config: Config) -> Opened:
    """A connection to an instance of its own, or to that of another such connection, as DuckDB decides."""
    use = _uses.get(key, _Use())
    if use.shared is not None:
        raise duckdb.ConnectionException(_OTHERWISE)
    if not (read_only and writing.locked()):
        mend(path)
    connection = duckdb.connect(str(path), read_only=read_only, config=CONFIG | config)
    _uses[key] = use
    use.n += 1
    return Opened(connection, key, use)


def _instance(path: Path) -> duckdb.DuckDBPyConnection:
    """The instance to attach a file to; what does not fit into memory is put down beside the file."""
    place = f"{path}.tmp"
    if _instances and not any(use.shared for use in _uses.values()):
        try:
            _instances[0].execute("set temp_directory = ?", [place])
        except duckdb.Error:  # the one before is in use for ever
            _instances.clear()
    if not _instances:
        _instances.append(duckdb.connect(config=CONFIG | {"temp_directory": place}))
    return _instances[0]


def _let_go(key: str, use: _Use) -> None:
    """Forget a file of which no connection is open any more."""
    if _uses.get(key) is use:
        del _uses[key]
    if use.shared is not None:
        try:
            use.shared.execute(f"detach {use.name}")
        except duckdb.Error:
            forget_instance()


def _forked() -> None:
    """Leave the instance to the parent, whose threads it has: it is neither used nor ended here."""
    _of_the_parent.extend(_instances)
    _drop_instance()


os.register_at_fork(after_in_child=_forked)
