"""Blocks of the catalog that a checkpoint was writing over when it was cut short."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from registry import database, spare_blocks
from registry.catalog import Catalog
from registry.errors import CatalogDamaged, NotEnoughDisk
from registry.spare_blocks import mend, spare_file

_HEADERS, _BLOCK = 12_288, 262_144


@pytest.fixture
def catalog(tmp_path):
    made = Catalog(tmp_path / "catalog.duckdb")
    for value in "ab":
        with made.write() as transaction:
            transaction.execute("insert into store.setting values (?, ?)", [value, "1"])
    return made


def settings(path: Path) -> list[str]:
    return [row["key"] for row in Catalog(path).rows("select key from store.setting order by key")]


def killed(catalog: Catalog, folder: Path) -> Path:
    """What is on the disk when a process is killed before it commits; the path of the catalog."""
    folder.mkdir()
    with catalog.write() as transaction:
        transaction.execute("insert into store.setting values ('c', '1')")
        for path in (catalog.path, spare_file(catalog.path)):
            shutil.copy(path, folder / path.name)
    return folder / catalog.path.name


def spared(path: Path) -> list[int]:
    """The numbers of the blocks that there are copies of."""
    copies = spare_file(path).read_bytes()[_HEADERS:]
    return [int.from_bytes(copies[i : i + 8], "little") for i in range(0, len(copies), 16 + _BLOCK)]


def iteration(path: Path) -> int:
    """How many checkpoints a catalog has seen, as the newer of its headers counts them."""
    headers = path.read_bytes()[:_HEADERS]
    return max(int.from_bytes(headers[at + 8 : at + 16], "little") for at in (4096, 8192))


def tear(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek(_HEADERS + number * _BLOCK)
        file.write(os.urandom(_BLOCK // 2))


def test_torn_blocks_are_put_back_before_anybody_reads(catalog, tmp_path):
    path = killed(catalog, tmp_path / "killed")
    assert spared(path)
    for number in spared(path):
        tear(path, number)
    with pytest.raises(duckdb.Error, match="checksum"):
        duckdb.connect(str(path), read_only=True)
    assert settings(path) == ["a", "b", "views"]
    assert not spare_file(path).exists()


def test_through_a_link_copies_are_where_the_catalog_is(catalog, tmp_path):
    link = tmp_path / "link" / "catalog.duckdb"
    link.parent.mkdir()
    link.symlink_to(catalog.path)
    with Catalog(link).write():
        assert spared(catalog.path)
    assert list(link.parent.iterdir()) == [link]


def test_without_copies_a_torn_block_is_damage(catalog, tmp_path):
    path = killed(catalog, tmp_path / "killed")
    for number in spared(path):
        tear(path, number)
    spare_file(path).unlink()
    with pytest.raises(CatalogDamaged):
        settings(path)


def test_whole_blocks_are_left_as_they_are(catalog, tmp_path):
    path = killed(catalog, tmp_path / "killed")
    shutil.copy(catalog.path, path)  # as it was when another checkpoint was done
    after = path.read_bytes()
    mend(path)
    assert path.read_bytes() == after
    assert not spare_file(path).exists()


def test_under_other_headers_nothing_is_put_back(catalog, tmp_path):
    path = killed(catalog, tmp_path / "killed")
    shutil.copy(catalog.path, path)
    for number in spared(path):
        tear(path, number)
    after = path.read_bytes()
    mend(path)
    assert path.read_bytes() == after


@pytest.mark.parametrize("n_bytes", [0, 100, _HEADERS, _HEADERS + 10, _HEADERS + 1000])
def test_copies_that_were_cut_short_change_nothing(catalog, tmp_path, n_bytes):
    path = killed(catalog, tmp_path / "killed")
    with spare_file(path).open("r+b") as file:
        file.truncate(n_bytes)
    assert settings(path) == ["a", "b", "views"]
    assert not spare_file(path).exists()


@pytest.mark.parametrize(
    ("number", "n_bytes"), [(0, 1 << 62), (0, 1 << 40), (1 << 63, 8), (1 << 40, _BLOCK), (0, 0)]
)
def test_copies_that_are_something_else_change_nothing(catalog, tmp_path, number, n_bytes):
    path = killed(catalog, tmp_path / "killed")
    whole = path.read_bytes()[_HEADERS : _HEADERS + _BLOCK]
    head = number.to_bytes(8, "little") + n_bytes.to_bytes(8, "little")
    before = path.read_bytes()
    spare_file(path).write_bytes(before[:_HEADERS] + head + whole)
    mend(path)
    assert path.read_bytes() == before
    assert not spare_file(path).exists()


def test_a_catalog_that_somebody_has_open_is_left_alone(catalog, tmp_path):
    path = killed(catalog, tmp_path / "killed")
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        mend(path)
        assert spare_file(path).exists()
        other.stdin.close()
    assert settings(path) == ["a", "b", "views"]


def test_whoever_fails_leaves_no_copies(catalog):
    with pytest.raises(duckdb.Error), catalog.write() as transaction:
        transaction.execute("from nothing")
    assert not spare_file(catalog.path).exists()
    assert settings(catalog.path) == ["a", "b", "views"]


def test_without_room_for_the_copies_nothing_is_changed(catalog, monkeypatch):
    def full(_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spare_blocks, "sync", full)
    with pytest.raises(NotEnoughDisk), catalog.write() as transaction:
        transaction.execute("insert into store.setting values ('c', '1')")
    assert not spare_file(catalog.path).exists()
    assert settings(catalog.path) == ["a", "b", "views"]


def test_under_one_set_of_copies_there_is_one_checkpoint(catalog, monkeypatch):
    """The second of two would write over blocks that the first one wrote, and that nobody has copied."""
    with catalog.write() as transaction:
        transaction.execute("create table store.big as select range as n from range(2000000)")

    def migrate(connection, _path):
        for sql in ("update store.big set n = n + 1", "delete from store.big where n > 10"):
            connection.begin()
            connection.execute(sql)
            connection.commit()

    current = iter([False, True])
    monkeypatch.setattr(database, "is_current", lambda _: next(current))
    monkeypatch.setattr(database, "migrate", migrate)
    before = iteration(catalog.path)
    with catalog.write():
        pass
    assert iteration(catalog.path) == before + 1


def test_the_lock_is_held_while_a_transaction_is_open(catalog):
    with catalog.write():
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        asked = [sys.executable, "-c", code, str(catalog.path)]
        assert b"BlockingIOError" in subprocess.run(asked, capture_output=True, check=False).stderr
    with catalog.path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
