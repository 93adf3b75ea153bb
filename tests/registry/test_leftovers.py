"""Leftovers: what is in use is left alone, names that look like ours and are not too."""

import fcntl
import os

import pytest

from registry.database import Database
from registry.leftovers import check_leftovers, check_outputs, check_places, remove
from registry.migration import migrate


def test_only_what_is_ours_and_idle_is_told(tmp_path):
    for name in (".my.duckdb.new", ".importance"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".import-1").mkdir()
    (tmp_path / ".import-file").write_text("not a folder")
    (found,) = check_leftovers(tmp_path / "my.duckdb")
    assert [os.path.basename(path) for path in found.removes] == [".import-1"]
    remove(found.removes)
    assert list(check_leftovers(tmp_path / "my.duckdb")) == []
    assert len(list(tmp_path.iterdir())) == 3


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    remove([str(tmp_path / "link"), str(tmp_path / "gone")])
    assert (tmp_path / "mine" / "file").exists()
    assert not (tmp_path / "link").exists()


@pytest.fixture
def reader(catalog):
    with catalog.write():
        pass
    with Database(catalog.path).read() as opened:
        yield opened


def test_nothing_is_told_of_an_empty_catalog(reader):
    assert list(check_places(reader)) == list(check_outputs(reader)) == []
    migrate(reader.connection, "x")


def test_a_folder_at_work_is_left(catalog, tmp_path):
    with catalog.write() as transaction:
        transaction.execute(
            "insert into store.run by name select 'r' as id, 'd' as recipe, 'FAILED' as status, ? as output, '1' as engine_version, "
            "1 as process, now() as started_at",
            [str(tmp_path / "out")],
        )
    folder = tmp_path / ".out.0123abcd.partial"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with catalog.read() as reader:
        assert list(check_outputs(reader)) == []
        os.close(lock)
        assert [f.kind for f in check_outputs(reader)] == ["unfinished"]
