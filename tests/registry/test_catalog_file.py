"""The catalog's file: made whole by one of many, and told from what is none."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.catalog import Catalog
from registry.catalog_file import has_bytes, make, opened
from registry.errors import CatalogDamaged, CatalogLocked
from registry.migration import is_current

pytestmark = pytest.mark.usefixtures("_catalogs_are_made_anew")


def test_a_file_has_bytes_or_is_none(tmp_path):
    assert not has_bytes(tmp_path / "nothing")
    assert not has_bytes(tmp_path / "nothing" / "below")
    (tmp_path / "empty").touch()
    assert not has_bytes(tmp_path / "empty")
    (tmp_path / "full").write_bytes(b"x")
    assert has_bytes(tmp_path / "full")
    assert not has_bytes(tmp_path / "full" / "below")


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CatalogDamaged, match="is no file"):
            has_bytes(path)
    with pytest.raises(CatalogDamaged):
        has_bytes(tmp_path / ("x" * 300))


@pytest.mark.parametrize("name", ["catalog.duckdb", "x" * 250])
def test_one_of_many_makes_it_and_all_find_it_whole(tmp_path, name):
    path = tmp_path / "new" / name
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: make(path, 30.0), range(4)))
    assert [file.name for file in path.parent.iterdir()] == [name]
    with opened(path) as connection:
        assert connection.execute("select count(*) from store.migration").fetchone() != (0,)
        assert is_current(connection)


def test_what_is_there_is_left_as_it_is(tmp_path):
    path = tmp_path / "c.duckdb"
    path.write_bytes(b"something else")
    make(path, 0.0)
    assert path.read_bytes() == b"something else"


def test_whoever_makes_one_in_the_folder_is_waited_for_and_named(tmp_path):
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(CatalogLocked, match="being made by another process"):
            make(tmp_path / "c.duckdb", 0.05)
    finally:
        os.close(lock)
    make(tmp_path / "c.duckdb", 0.05)
    assert has_bytes(tmp_path / "c.duckdb")


def test_a_link_to_a_place_without_a_catalog_gets_one_there(tmp_path):
    there = tmp_path / "disk" / "catalog.duckdb"
    link = tmp_path / "catalog.duckdb"
    link.symlink_to(there)
    with Catalog(link).write() as transaction:
        transaction.execute("insert into store.setting values ('a', '1')")
    assert link.is_symlink()
    assert Catalog(there).rows("select value from store.setting where key = 'a'") == [
        {"value": "1"}
    ]
