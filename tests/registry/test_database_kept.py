"""A connection that several reads share."""

import pytest

from registry.database import Database


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "catalog.duckdb", wait_seconds=10)


def test_reads_in_a_block_share_one_connection_until_somebody_writes(database, monkeypatch):
    with database.write() as transaction:
        transaction.execute("insert into store.setting values ('a', '1')")
    opened = []
    connect = type(database)._connect
    monkeypatch.setattr(
        type(database), "_connect",
        lambda self, **how: opened.append(how["read_only"]) or connect(self, **how),
    )  # fmt: skip
    count = "select count(*) as n from store.setting"
    with database.kept_open():
        n = database.rows(count)[0]["n"]
        with database.kept_open(), database.read() as reader:
            assert reader.rows(count) == database.rows(count)
        assert opened == [True]
        with database.write() as transaction:
            transaction.execute("insert into store.setting values ('b', '2')")
        assert database.rows(count)[0]["n"] == n + 1
        assert opened == [True, False, True]
    with database.write() as transaction:  # nothing is open any more
        transaction.execute("insert into store.setting values ('c', '3')")
