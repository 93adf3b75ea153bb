"""Broken files: what can be read is in a new one, the broken one is kept, and what is lost is said."""

import errno
import os
import random
import resource
import shutil
import subprocess
import sys

import duckdb
import pytest

from registry import doctor
from registry.catalog import Catalog
from registry.doctor import examine
from registry.errors import CatalogLocked, NotEnoughDisk
from registry.resources import migrations
from registry.salvage import copied, keep_copy, source_of, stamped, take_place, unreadable_tables

NEWEST = migrations()[-1][0]
BLOCK = 262_144
FIRST = 12_288


@pytest.fixture
def broken(_rich_catalog, tmp_path):
    """Make a catalog's file of other bytes."""

    def make(change):
        file = tmp_path / "catalog.duckdb"
        file.write_bytes(change(bytearray(_rich_catalog)))
        return Catalog(file)

    return make


def rows(file):
    """Table → its rows; those that cannot be read are left out."""
    found = {}
    with duckdb.connect(str(file), read_only=True) as connection:
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'store' order by 1"
        ).fetchall()
        for (name,) in names:
            found[name] = connection.execute(f"select * from store.{name} order by all").fetchall()
    return found


def blocks(data, tmp_path):
    """The block that most columns of the table lie in, for tables with one; and those of metadata."""
    file = tmp_path / "look.duckdb"
    file.write_bytes(data)
    with duckdb.connect(str(file), read_only=True) as connection:
        found = {}
        for table in ("score", "tensor", "delta", "sketch"):
            found[table] = [row[0] for row in connection.execute(
                f"select block_id from pragma_storage_info('store.{table}') where block_id >= 0 group by 1 order by count(*) desc"
            ).fetchall()]  # fmt: skip
        metadata = [
            row[0]
            for row in connection.execute("select block_id from pragma_metadata_info()").fetchall()
        ]
    file.unlink()
    return found, metadata


def wiped(data, block):
    at = FIRST + block * BLOCK
    data[at + 100 : at + 200] = bytes(100)
    return data


@pytest.mark.parametrize("table", ["score", "tensor", "delta"])
def test_a_block_that_cannot_be_read_costs_its_rows_and_no_others(
    table, _rich_catalog, broken, tmp_path
):
    found, _ = blocks(_rich_catalog, tmp_path)
    catalog = broken(lambda data: wiped(data, found[table][0]))
    before = rows_of_whole(_rich_catalog, tmp_path)
    told = examine(catalog)
    assert not told.ok
    assert {(f.kind, f.where) for f in told.findings if f.is_damage} == {("unreadable_rows", table)}
    done = examine(catalog, repair=True)
    lost = " ".join(f.lost for f in done.findings)
    assert table in lost
    assert done.kept.name.startswith("catalog.duckdb.damaged-")
    after = rows(catalog.path)
    for name, values in before.items():
        if name not in (
            table,
            "pair",
            "histogram",
            "spectrum",
            "setting",
            "file",
            "clans",
            "component",
        ):
            assert after[name] == values, name
    assert examine(catalog).ok or {f.kind for f in examine(catalog).findings if f.is_damage} == {
        "digest"
    }
    assert Catalog(catalog.path).rows("select name from models")


def rows_of_whole(data, tmp_path):
    file = tmp_path / "whole.duckdb"
    file.write_bytes(data)
    found = rows(file)
    file.unlink()
    return found


def test_values_that_may_be_missing_cost_no_rows(_rich_catalog, tmp_path):
    """A column of its own block: its values are lost, its rows are not."""
    file = tmp_path / "catalog.duckdb"
    file.write_bytes(_rich_catalog)
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "insert into store.tensor select 'm', 't' || i, 'F32', '[1]', 1, 4, i, 'other', "
            "md5(i::varchar) || md5((i + 1)::varchar) from range(300000) r(i)"
        )
    with duckdb.connect(str(file), read_only=True) as connection:
        alone = connection.execute(
            "select block_id, any_value(column_name) as c from pragma_storage_info('store.tensor') where block_id >= 0 "
            "group by 1 having count(distinct column_name) = 1 and c = 'digest' order by 1 desc"
        ).fetchall()
    assert alone
    data = bytearray(file.read_bytes())
    file.write_bytes(wiped(data, alone[0][0]))
    losses = {loss.table: loss for loss in copied(file, tmp_path / "new.duckdb", NEWEST, file)}
    tensor = losses.pop("tensor")
    assert tensor.blank == {"digest"}
    assert tensor.lost == 0
    assert not any(loss.lost or loss.refused or loss.blank for loss in losses.values())
    with duckdb.connect(str(tmp_path / "new.duckdb"), read_only=True) as connection:
        n, n_digests = connection.execute(
            "select count(*), count(digest) from store.tensor where model_id = 'm'"
        ).fetchone()
    assert n == 300_000
    assert 0 < n_digests < n


def test_a_truncated_file_gives_back_what_its_older_header_leads_to(
    _rich_catalog, broken, tmp_path
):
    """The newest metadata may be cut off while the older is whole: all but the last changes are there again."""
    file = tmp_path / "grown.duckdb"
    file.write_bytes(_rich_catalog)
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "create table store.filler as select repeat(md5(i::varchar), 9) as t from range(20000) r(i)"
        )
    grown = file.read_bytes()
    assert len(grown) > len(_rich_catalog)
    cut = None
    for n_blocks in range(1, (len(grown) - FIRST) // BLOCK):
        file.write_bytes(grown[: len(grown) - n_blocks * BLOCK])
        try:
            duckdb.connect(str(file), read_only=True).close()
        except duckdb.Error:
            cut = len(grown) - n_blocks * BLOCK
            break
    assert cut
    catalog = broken(lambda _: grown[:cut])
    found = examine(catalog)
    assert [f.kind for f in found.findings if f.is_damage] == ["unreadable"]
    (told,) = (f for f in found.findings if f.is_damage)
    done = examine(catalog, repair=True)
    if "between its last two checkpoints" in told.lost:
        assert done.ok
        assert {k: v for k, v in rows(catalog.path).items() if k != "setting"} == {
            k: v for k, v in rows_of_whole(_rich_catalog, tmp_path).items() if k != "setting"
        }
    assert done.kept.read_bytes() == grown[:cut]


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 4096, 8192, FIRST, FIRST + 1000])
def test_a_file_of_which_nothing_is_left_is_kept_and_a_new_one_begun(
    n_bytes, broken, _rich_catalog
):
    catalog = broken(lambda data: data[:n_bytes])
    found = examine(catalog)
    assert not found.ok
    (told,) = (f for f in found.findings if f.is_damage)
    assert told.kind == (
        "empty" if not n_bytes else "not_a_database" if n_bytes < 12 else "unreadable"
    )
    assert "reg scan FOLDER" in told.repair
    assert catalog.path.stat().st_size == n_bytes
    done = examine(catalog, repair=True)
    assert done.ok is (n_bytes == 0)
    if n_bytes >= 12:
        assert done.kept.read_bytes() == _rich_catalog[:n_bytes]
    if n_bytes == 0 or n_bytes >= 12:
        assert Catalog(catalog.path).write().__enter__()
        assert Catalog(catalog.path).rows("select * from models") == []


@pytest.mark.parametrize("what", ["text", "zeros", "parquet-like"])
def test_a_file_that_is_no_database_is_left_alone(what, broken):
    data = {"text": b"hello " * 9999, "zeros": bytes(99999), "parquet-like": b"PAR1" * 9999}[what]
    catalog = broken(lambda _: data)
    for repair in (False, True):
        found = examine(catalog, repair=repair)
        assert [f.kind for f in found.findings] == ["not_a_database"]
        assert not found.ok
        assert catalog.path.read_bytes() == data


def test_the_database_of_something_else_is_left_alone(tmp_path):
    file = tmp_path / "catalog.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table mine as select 42 as x")
    before = file.read_bytes()
    for repair in (False, True):
        found = examine(Catalog(file), repair=repair)
        assert [f.kind for f in found.findings] == ["foreign"]
        assert not found.ok
    assert file.read_bytes() == before


def test_a_folder_is_no_catalog(tmp_path):
    (tmp_path / "catalog.duckdb").mkdir()
    found = examine(Catalog(tmp_path / "catalog.duckdb"), repair=True)
    assert [f.kind for f in found.findings] == ["not_a_file"]
    assert not found.ok


def test_a_log_that_cannot_be_read_is_set_aside(_rich_catalog, tmp_path):
    file = tmp_path / "catalog.duckdb"
    file.write_bytes(_rich_catalog)
    program = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        'c.execute("update store.model set dtype = \'F64\'"); c.execute("delete from store.score"); os._exit(9)'
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=False)
    wal = tmp_path / "catalog.duckdb.wal"
    data = bytearray(wal.read_bytes())
    data[len(data) // 2] ^= 0xFF
    wal.write_bytes(data)
    found = examine(Catalog(file))
    if not found.ok:
        (told,) = (f for f in found.findings if f.is_damage)
        assert "write-ahead log" in told.lost
        done = examine(Catalog(file), repair=True)
        assert done.ok
        assert done.kept.with_name(done.kept.name + ".wal").read_bytes() == bytes(data)
        assert not wal.exists()
    assert Catalog(file).rows("select name from models")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_overwritten_nothing_raises_and_the_old_file_is_kept(
    seed, _rich_catalog, broken
):
    """Any stretch of any bytes: the report names it, and what the repair leaves behind answers or is empty."""
    draw = random.Random(seed)
    at = draw.choice(
        (draw.randrange(len(_rich_catalog)), draw.randrange(FIRST), draw.randrange(100, 9000))
    )
    junk = draw.randbytes(64) * draw.randint(1, 5000)
    hurt = _rich_catalog[:at] + junk + _rich_catalog[at + len(junk) :]
    catalog = broken(lambda _: hurt)
    found = examine(catalog)
    assert catalog.path.read_bytes() == hurt
    done = examine(catalog, repair=True)
    if any(f.needs_rebuild for f in found.findings):
        assert done.kept.read_bytes() == hurt
        assert all(f.lost for f in done.findings if f.needs_rebuild) or done.ok
    assert catalog.path.stat().st_size == 0 or catalog.rows("select count(*) as n from models")


def test_one_of_two_headers_is_enough(_rich_catalog, broken, tmp_path):
    newer = max(
        (4096, 8192), key=lambda at: int.from_bytes(_rich_catalog[at + 8 : at + 16], "little")
    )
    for at in (newer, 12288 - newer):
        catalog = broken(lambda data, at=at: data[:at] + b"\xff" * 64 + data[at + 64 :])
        done = examine(catalog, repair=True)
        assert done.ok
        assert any("may be what was written between" in f.lost for f in done.findings)
        assert Catalog(catalog.path).rows("select name from models")
    whole, found = rows_of_whole(_rich_catalog, tmp_path), rows(catalog.path)
    assert {k: v for k, v in found.items() if k != "setting"} == {
        k: v for k, v in whole.items() if k != "setting"
    }


def test_copies_have_names_of_their_own(_rich_catalog, tmp_path):
    file = tmp_path / "catalog.duckdb"
    file.write_bytes(_rich_catalog)
    first, second = keep_copy(file), keep_copy(file)
    assert first != second
    assert first.read_bytes() == second.read_bytes() == _rich_catalog
    assert not stamped(file, "x").exists()
    new = tmp_path / "new"
    new.write_bytes(b"new")
    (tmp_path / "catalog.duckdb.wal").write_bytes(b"log")
    kept = take_place(new, file)
    assert file.read_bytes() == b"new"
    assert kept.read_bytes() == _rich_catalog
    assert kept.with_name(kept.name + ".wal").read_bytes() == b"log"
    with source_of(kept) as source:
        assert source is not None
        with duckdb.connect(str(source.file), read_only=True) as connection:
            assert unreadable_tables(connection) == []


def test_a_repair_through_a_link_leaves_the_link_and_mends_the_file(broken, tmp_path):
    catalog = broken(lambda data: data[:-BLOCK])
    link = tmp_path / "links" / "catalog.duckdb"
    link.parent.mkdir()
    link.symlink_to(catalog.path)
    done = examine(Catalog(link), repair=True)
    assert list(link.parent.iterdir()) == [link]
    assert link.is_symlink()
    assert done.kept.parent == tmp_path
    assert Catalog(catalog.path).rows("select name from models")


def test_what_was_written_meanwhile_is_not_lost(broken, monkeypatch):
    catalog = broken(lambda data: data)
    with catalog.write() as transaction:
        transaction.execute("drop index store.edge_child")

    def overtaken(*asked):
        with catalog.write() as transaction:
            transaction.execute("insert into store.setting values ('new', '1')")
        return copied(*asked)

    monkeypatch.setattr(doctor, "copied", overtaken)
    with pytest.raises(CatalogLocked, match="was written while"):
        examine(catalog, repair=True)
    assert catalog.rows("select value from store.setting where key = 'new'") == [{"value": "1"}]
    assert [path.name for path in catalog.path.parent.iterdir()] == ["catalog.duckdb"]


def test_a_full_disk_loses_no_rows(broken):
    """Of 10 MB there are 2 for the new file, which is written when it is closed, if nobody asks before."""
    catalog = broken(lambda data: data)
    with catalog.write() as transaction:
        transaction.execute("drop index store.edge_child")
    before = catalog.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for n_bytes in (100, 1 << 20, 2 << 20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        try:
            with pytest.raises(NotEnoughDisk, match=f"catalog {catalog.path} "):
                examine(catalog, repair=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert catalog.path.read_bytes() == before
    assert [path.name for path in catalog.path.parent.iterdir()] == ["catalog.duckdb"]


def test_without_room_for_a_copy_nothing_is_mended(broken, monkeypatch):
    catalog = broken(lambda data: data)
    with catalog.write() as transaction:
        transaction.execute("delete from store.model")
    before = catalog.path.read_bytes()

    def full(_old, new):
        new.write_bytes(b"a part of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(NotEnoughDisk, match=str(catalog.path)):
        examine(catalog, repair=True)
    assert [path.name for path in catalog.path.parent.iterdir()] == ["catalog.duckdb"]
    assert catalog.path.read_bytes() == before


def test_nobody_writes_while_the_copy_is_made(broken, monkeypatch):
    catalog = broken(lambda data: data)
    with catalog.write() as transaction:
        transaction.execute("delete from store.model")
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    asked = []

    def told(old, new):
        ran = subprocess.run([sys.executable, "-c", code, str(catalog.path)], capture_output=True, check=False)  # fmt: skip
        asked.append(b"BlockingIOError" in ran.stderr)
        new.write_bytes(old.read_bytes())

    monkeypatch.setattr(shutil, "copy2", told)
    examine(catalog, repair=True)
    assert asked == [True]
