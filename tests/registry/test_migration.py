"""Migrations: a file is brought to today's version once, and only a catalog is."""

import duckdb
import pytest

from registry.database import Database
from registry.errors import CatalogDamaged, CatalogTooNew
from registry.migration import is_current, migrate
from registry.resources import migrations


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


def test_one_that_was_left_out_is_made_up_for(connection, tmp_path):
    left_out = 8
    for number, file in migrations():
        if number != left_out:
            connection.execute(file.read_text(encoding="utf-8"))
            connection.execute("insert into store.migration values (?, ?, now())", [number, "old"])
    assert not is_current(connection)
    migrate(connection, tmp_path)
    assert is_current(connection)
    assert connection.execute("select count(etag) from store.file").fetchone() == (0,)


@pytest.mark.parametrize("name", ["list.jsonl", "list.csv", "list.json"])
def test_a_file_of_values_is_no_catalog_and_nothing_seems_to_be_written(tmp_path, name):
    file = tmp_path / name
    file.write_text("id,x\na/b,1\n" if name.endswith("csv") else '{"id": "a/b"}\n')
    before = file.read_bytes()
    with pytest.raises(CatalogDamaged, match="no catalog"), Database(file).write():
        pass
    assert file.read_bytes() == before


def test_the_database_of_something_else_is_left_alone(connection, tmp_path):
    connection.execute("create table mine (x int)")
    with pytest.raises(CatalogDamaged, match="no catalog"):
        migrate(connection, tmp_path)
    assert connection.execute("select count(*) from duckdb_tables()").fetchone() == (1,)


def at_version(connection, version):
    """Bring an empty database to an older version."""
    for number, file in migrations():
        if number <= version:
            connection.execute(file.read_text(encoding="utf-8"))
            connection.execute("insert into store.migration values (?, ?, now())", [number, "old"])


def test_histograms_of_bins_become_lists_and_lose_nothing(tmp_path):
    file = tmp_path / "old.duckdb"
    bins = [
        ("c", "b", tensor, bin_, n, n / 3, n / 7)
        for tensor, first in (("w", -416), ("v", -5))
        for bin_, n in zip(range(first, first + 150), range(1000, 850, -1), strict=True)
    ]
    with duckdb.connect(str(file)) as connection:
        at_version(connection, 3)
        connection.executemany(
            "insert into store.histogram values (?, ?, ?, ?, ?, ?, ?)", bins[::2] + bins[1::2]
        )
    with duckdb.connect(str(file)) as connection:
        migrate(connection, file)
    with duckdb.connect(str(file)) as connection:
        assert is_current(connection)
        assert connection.execute("select count(*) from store.histogram").fetchone() == (2,)
        found = connection.execute(
            "select child, base, tensor, unnest(bins), unnest(counts), unnest(sums_abs), "
            "unnest(sums_sq) from store.histogram order by tensor desc"
        ).fetchall()
        assert found == bins
        with pytest.raises(duckdb.ConstraintException):
            connection.execute("insert into store.histogram from store.histogram")


def test_a_catalog_without_histograms_is_brought_to_today(connection, tmp_path):
    at_version(connection, 3)
    migrate(connection, tmp_path)
    assert is_current(connection)
    assert connection.execute("select count(*) from store.histogram").fetchone() == (0,)


def test_tensors_that_lose_their_index_lose_nothing_else(tmp_path):
    tensors = [
        (f"m{i % 3}", f"w{i}", "BF16", "[2, 3]", 6, 12, i if i % 2 else None, "other", None)
        for i in range(7)
    ]
    with duckdb.connect(str(tmp_path / "old.duckdb")) as connection:
        at_version(connection, 9)
        connection.executemany(
            "insert into store.tensor values (?, ?, ?, ?, ?, ?, ?, ?, ?)", tensors
        )
        migrate(connection, tmp_path)
        found = connection.execute("from store.tensor").fetchall()
        assert found == sorted(tensors, key=lambda row: row[:2])
