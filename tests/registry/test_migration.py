"""Migrations: a file is brought to today's version once, and only a catalog is."""

import duckdb
import pytest

from registry.errors import CatalogDamaged, CatalogTooNew
from registry.migration import is_current, migrate


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        yield opened


def test_an_empty_file_is_brought_to_today_and_stays_there(connection, tmp_path):
    assert not is_current(connection)
    migrate(connection, tmp_path)
    assert is_current(connection)
    before = connection.execute("select * from store.migration").fetchall()
    migrate(connection, tmp_path)
    assert connection.execute("select * from store.migration").fetchall() == before


def test_a_newer_one_is_refused(connection, tmp_path):
    migrate(connection, tmp_path)
    connection.execute("insert into store.migration values (9999, 'later', now())")
    assert not is_current(connection)
    with pytest.raises(CatalogTooNew, match="version 9999"):
        migrate(connection, tmp_path)


def test_the_database_of_something_else_is_left_alone(connection, tmp_path):
    connection.execute("create table mine (x int)")
    with pytest.raises(CatalogDamaged, match="no catalog"):
        migrate(connection, tmp_path)
    assert connection.execute("select count(*) from duckdb_tables()").fetchone() == (1,)
