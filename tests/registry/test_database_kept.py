"""A connection that several reads share."""

import subprocess
import sys

import pytest
from scanned import tiny

import registry.connection
import registry.database
from registry.catalog import Catalog
from registry.database import Database
from registry.entry import read_entry
from registry.scan import scan


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "catalog.duckdb", wait_seconds=10)


def test_reads_in_a_block_share_one_connection_until_somebody_writes(database, monkeypatch):
    with database.write() as transaction:
        transaction.execute("insert into store.setting values ('a', '1')")
    opened = []

    def noting(name):
        real = getattr(registry.connection, name)
        return lambda *args, **options: opened.append(name) or real(*args, **options)

    for name in ("open_to_read", "open_apart"):
        monkeypatch.setattr(registry.database, name, noting(name))
    count = "select count(*) as n from store.setting"
    with database.kept_open():
        n = database.rows(count)[0]["n"]
        with database.kept_open(), database.read() as reader:
            assert reader.rows(count) == database.rows(count)
        assert opened == ["open_to_read"]
        with database.write() as transaction:
            transaction.execute("insert into store.setting values ('b', '2')")
        assert database.rows(count)[0]["n"] == n + 1
        assert opened == ["open_to_read", "open_apart", "open_to_read"]
    with database.write() as transaction:  # nothing is open any more
        transaction.execute("insert into store.setting values ('c', '3')")


def test_what_a_block_reads_and_writes_as_one_is_kept_or_not_at_all(database, monkeypatch):
    with database.write() as transaction:
        transaction.execute("insert into store.setting values ('a', '1')")
    opened, real = [], registry.connection.open_apart
    monkeypatch.setattr(
        registry.database, "open_apart", lambda *a, **o: opened.append(a) or real(*a, **o)
    )
    keys = "select key from store.setting where key < 'd' order by key"

    def two():
        with database.write() as transaction:
            transaction.execute("insert into store.setting values ('b', '2')")
        assert [row["key"] for row in database.rows(keys)] == ["a", "b"]
        with database.write() as transaction:
            transaction.execute("insert into store.setting values ('c', '3')")

    def fail():
        with database.as_one():
            two()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [row["key"] for row in database.rows(keys)] == ["a"]
    with database.as_one():
        two()
    assert [row["key"] for row in Database(database.path).rows(keys)] == ["a", "b", "c"]
    assert len(opened) == 2


def test_a_scan_that_reads_weights_lets_others_write_meanwhile(tmp_path, monkeypatch):
    catalog, others = Catalog(tmp_path / "catalog.duckdb"), []
    first, second = tiny(tmp_path / "first", 1), tiny(tmp_path / "second", 2)
    scan(catalog, [str(first)])

    def read(*args, **options):
        program = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"
        others.append(subprocess.run([sys.executable, "-c", program, catalog.path]).returncode)  # noqa: PLW1510
        return read_entry(*args, **options)

    monkeypatch.setattr("registry.scan.read_entry", read)
    with catalog.database.kept_open():
        catalog.rows("select 1")
        scan(catalog, [str(second)])
    assert others == [0]
