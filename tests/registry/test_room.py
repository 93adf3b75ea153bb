"""Room on the catalog's disk, proved before a commit: a disk without it is told of, and the process goes on."""

import errno
import os

import duckdb
import pytest

from registry import database as door
from registry.database import Database
from registry.errors import NotEnoughDisk
from registry.refusal import translated
from registry.room import prove_room


def full(handle, offset, n_bytes):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def put_again(database):
    with database.write() as transaction:
        transaction.execute("delete from store.setting where key = 'kept'")
        transaction.insert("setting", {"key": ["kept"], "value": ["2"]})


def settings(database):
    rows = database.rows("select key from store.setting where key <> 'views' order by key")
    return [row["key"] for row in rows]


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "catalog.duckdb", wait_seconds=5)
    with made.write() as transaction:
        transaction.insert("setting", {"key": ["kept"], "value": ["1"]})
    return made


def test_a_commit_without_room_is_not_begun(database, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughDisk, match="was not kept") as caught:
        put_again(database)
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    assert settings(database) == ["kept"]
    assert [path.name for path in database.path.parent.iterdir()] == ["catalog.duckdb"]


def test_the_more_is_written_the_more_room_is_asked_for(database, monkeypatch):
    asked = []
    monkeypatch.setattr(door, "prove_room", lambda _, n_bytes: asked.append(n_bytes))
    for n in (1, 1000):
        with database.write() as transaction:
            keys = [f"{n}.{i}" for i in range(n)]
            transaction.insert("setting", {"key": keys, "value": keys})
        with database.write() as transaction:
            transaction.execute("update store.setting set value = 'new'")
    inserted, changed, more_inserted, more_changed = asked
    assert 0 < inserted < more_inserted
    assert 0 < changed < more_changed


def test_a_file_system_that_reserves_nothing_is_believed(tmp_path, monkeypatch):
    def unsupported(handle, offset, n_bytes):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    prove_room(tmp_path / "catalog.duckdb", 1 << 40)
    prove_room(tmp_path / "no" / "catalog.duckdb", 0)  # whoever writes there says so


@pytest.mark.usefixtures("_catalogs_are_made_anew")
def test_a_catalog_that_cannot_be_made_whole_leaves_nothing(tmp_path, monkeypatch):
    def torn(connection, path):
        connection.execute("create table half (i integer)")
        message = 'Could not write file "x": No space left on device'
        raise duckdb.IOException(message)

    monkeypatch.setattr("registry.catalog_file.migrate", torn)
    database = Database(tmp_path / "catalog.duckdb", wait_seconds=1)
    with pytest.raises(NotEnoughDisk), database.write():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_catalogs_are_made_anew")
def test_a_catalog_is_whole_without_its_log(tmp_path, monkeypatch):
    """DuckDB says nothing when a connection that is closed cannot write its log into the file."""
    real = duckdb.connect

    def connect(name, **options):
        connection = real(name, **options)
        if not options.get("read_only"):
            connection.execute("pragma disable_checkpoint_on_shutdown")
        return connection

    monkeypatch.setattr(duckdb, "connect", connect)
    with Database(tmp_path / "catalog.duckdb", wait_seconds=1).write():
        pass
    monkeypatch.undo()
    for log in tmp_path.glob("*.wal"):
        log.unlink()
    assert settings(Database(tmp_path / "catalog.duckdb", wait_seconds=1)) == []


@pytest.mark.parametrize("words", ["Permission denied", "Read-only file system"])
def test_what_is_forbidden_is_not_damaged(tmp_path, words):
    error = translated(duckdb.IOException(f'IO Error: Cannot open file "c": {words}'), tmp_path)
    assert "may not be read or written" in error.message
    assert "permissions" in error.hint
    assert "move the file away" not in error.hint
