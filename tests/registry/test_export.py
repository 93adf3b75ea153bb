"""Exports: there and back again, all of it; and whatever is not an export is refused."""

import errno
import hashlib
import json
import resource
import shutil

import duckdb
import pytest
from catalogs.keep import unpacked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scanned import tiny

from registry import export as module
from registry.alias import remove_alias, set_alias
from registry.catalog import Catalog, now
from registry.database import Database
from registry.doctor import examine
from registry.errors import (
    BadExport,
    CatalogDamaged,
    CatalogTooNew,
    NotEnoughDisk,
    OutputExists,
    RunFailed,
)
from registry.export import export, is_export, take_in
from registry.resources import migrations
from registry.scan import scan

NEWEST = migrations()[-1][0]
ALL = "select table_name as t from duckdb_tables() where schema_name = 'store' and table_name <> 'migration' order by 1"


@pytest.fixture(scope="session")
def rich(_rich_catalog, tmp_path_factory):
    """A catalog with rows in every table; only for reading."""
    file = tmp_path_factory.mktemp("rich") / "catalog.duckdb"
    file.write_bytes(_rich_catalog)
    catalog = Catalog(file)
    set_alias(catalog, "prod", catalog.find("arithmetic"), why="\x1b[2J, and \u202e")
    set_alias(catalog, "prod", catalog.find("reverse"), move=True)
    set_alias(catalog, "old", catalog.find("base"))
    remove_alias(catalog, "old")
    return catalog


@pytest.fixture(scope="session")
def _made(rich, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "export"
    export(rich, folder)
    return folder


@pytest.fixture
def made(_made, tmp_path):
    """An export of one's own."""
    return shutil.copytree(_made, tmp_path / "export")


def stored(catalog):
    """Every table, row by row, in the order in which they are stored."""
    with catalog.read() as reader:
        return {
            row["t"]: [tuple(r.values()) for r in reader.rows(f"select * from store.{row['t']}")]
            for row in reader.rows(ALL)
        }


def redone(folder, **changes):
    """Write the manifest anew."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def rewritten(folder, table, sql):
    """Write a table anew, and the manifest, so that only what the rows are is wrong."""
    file = folder / f"{table}.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table t as {sql.format(file)}")
        (n,) = connection.execute("select count(*) from t").fetchone()
        connection.execute(f"copy t to '{file}' (format parquet)")
    data = file.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tables"][table] = {
        "rows": n,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_every_row_of_every_table_comes_back_in_its_order(rich, made, tmp_path):
    before = rich.path.read_bytes()
    new = Catalog(tmp_path / "new" / "catalog.duckdb")
    back = take_in(new, made)
    assert stored(new) == stored(rich)
    assert (
        sum(back.rows.values()) == sum(map(len, stored(rich).values())) - 1
    )  # the digest of the views
    assert all(
        back.rows[t] for t in ("model", "tensor", "sketch", "histogram", "clans", "run", "score")
    )
    assert back.version == NEWEST
    assert rich.path.read_bytes() == before
    assert examine(new).ok
    assert sorted(p.name for p in new.path.parent.iterdir()) == ["catalog.duckdb"]
    manifest = json.loads((made / "manifest.json").read_text())
    for name, told in manifest["tables"].items():
        data = (made / f"{name}.parquet").read_bytes()
        assert told["bytes"] == len(data)
        assert told["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_same_catalog_gives_the_same_files(rich, made, tmp_path):
    again = export(rich, tmp_path / "again").folder
    for file in made.glob("*.parquet"):
        assert (again / file.name).read_bytes() == file.read_bytes()
    assert is_export(again)
    assert not is_export(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.one_of(st.none(), st.floats(allow_nan=False))


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.tuples(texts, texts, numbers, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=30
    )
)
def test_any_values_come_back(rows, _empty_catalog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.duckdb").write_bytes(_empty_catalog)
    a, b = Catalog(folder / "a.duckdb"), Catalog(folder / "b.duckdb")
    n = len(rows)
    with a.write() as transaction:
        transaction.insert("score", {
            "id": [f"{i}{r[0]}" for i, r in enumerate(rows)], "model_id": [r[1] for r in rows], "task": [r[0] for r in rows],
            "metric": [r[1] for r in rows], "value": [r[2] or 0.0 for r in rows], "stderr": [r[2] for r in rows],
            "n": [r[3] for r in rows], "origin": ["claimed"] * n, "source": [r[0] for r in rows], "raw": [r[1] for r in rows],
        })  # fmt: skip
        transaction.insert("problem", {
            "uri": [f"{i}{r[1]}" for i, r in enumerate(rows)], "file": [r[0] for r in rows], "error": ["x"] * n,
            "detail": [r[1] for r in rows], "seen_at": [now()] * n,
        })  # fmt: skip
    export(a, folder / "out")
    take_in(b, folder / "out")
    assert stored(b) == stored(a)


def test_an_export_of_an_older_version_is_migrated(tmp_path):
    file = unpacked(8, tmp_path / "old.duckdb")
    folder = tmp_path / "export"
    folder.mkdir()
    with Database(file).look() as reader:
        tables = {name: module._written(reader, name, folder) for name in module._tables(reader)}
    told = {"format": module.FORMAT, "version": 8, "tables": tables}
    (folder / "manifest.json").write_text(json.dumps(told))
    new = Catalog(tmp_path / "new.duckdb")
    assert take_in(new, folder).version == 8
    old = Catalog(file)
    with old.write():
        pass
    assert stored(new) == stored(old)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


HOSTILE = {
    "a flipped bit": (lambda f: flip(f / "model.parquet"), "SHA-256"),
    "a missing file": (lambda f: (f / "edge.parquet").unlink(), "lacks edge.parquet"),
    "one file too many": (lambda f: shutil.copy(f / "edge.parquet", f / "more.parquet"), "more.parquet"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "format"),
    "another format": (lambda f: redone(f, format="x"), "homolog-export-1"),
    "no version": (lambda f: redone(f, version="9"), "version"),
    "version 0": (lambda f: redone(f, version=0), "the first is 1"),
    "older than its tables": (lambda f: redone(f, version=2), "schema version 2"),
    "no tables": (lambda f: redone(f, tables={}), "does not name"),
    "tables that are words": (lambda f: redone(f, tables={"model": "x"}), "sha256"),
    "negative rows": (lambda f: redone(f, tables={"model": {"rows": -1, "bytes": 1, "sha256": "0" * 64}}), "rows"),
    "a path for a name": (lambda f: redone(f, tables={"../model": {"rows": 1, "bytes": 1, "sha256": "0" * 64}}), "lacks"),
    "a table left out": (lambda f: ((f / "run.parquet").unlink(), redone(f, tables={
        k: v for k, v in json.loads((f / "manifest.json").read_text())["tables"].items() if k != "run"
    })), "lacks table 'run'"),
    "migrations of its own": (lambda f: (shutil.copy(f / "run.parquet", f / "migration.parquet"), redone(f, tables={
        **json.loads((f / "manifest.json").read_text())["tables"], "migration": {"rows": 1, "bytes": 1, "sha256": "0" * 64},
    })), "migration"),
    "another column": (lambda f: rewritten(f, "model", "select *, 1 as x from '{}'"), "other columns"),
    "a column less": (lambda f: rewritten(f, "model", "select * exclude (dtype) from '{}'"), "other columns"),
    "another type": (lambda f: rewritten(f, "model", "select * replace (n_params::varchar as n_params) from '{}'"), "n_params"),
    "one key twice": (lambda f: rewritten(f, "model", "from '{0}' union all from '{0}'"), "uplicate key"),
    "no value": (lambda f: rewritten(f, "model", "select * replace (null::varchar as kind) from '{}'"), "NOT NULL"),
    "no Parquet": (lambda f: ((f / "run.parquet").write_bytes(b"x" * 99), redone(f, tables={
        **json.loads((f / "manifest.json").read_text())["tables"],
        "run": {"rows": 1, "bytes": 99, "sha256": hashlib.sha256(b"x" * 99).hexdigest()},
    })), "cannot be read"),
    "other rows than told": (lambda f: redone(f, tables={
        k: v | {"rows": v["rows"] + 1} for k, v in json.loads((f / "manifest.json").read_text())["tables"].items()
    }), "rows; the manifest says"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_export_is_refused_by_name_and_nothing_is_made(what, made, tmp_path):
    change, said = HOSTILE[what]
    change(made)
    new = Catalog(tmp_path / "new" / "catalog.duckdb")
    new.path.parent.mkdir()
    with pytest.raises(BadExport, match=said or "other columns"):
        take_in(new, made)
    assert list(new.path.parent.iterdir()) == []


def test_a_newer_one_is_refused(made, tmp_path):
    redone(made, version=NEWEST + 1)
    with pytest.raises(CatalogTooNew, match=f"knows up to {NEWEST}"):
        take_in(Catalog(tmp_path / "new.duckdb"), made)
    assert not (tmp_path / "new.duckdb").exists()


def test_a_catalog_that_knows_something_takes_none(made, tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    scan(catalog, [str(tiny(tmp_path / "a", 1.0))])
    before = catalog.path.read_bytes()
    with pytest.raises(OutputExists, match="knows something already"):
        take_in(catalog, made)
    assert catalog.path.read_bytes() == before


@pytest.fixture
def full():
    """No file of this process may have more than 1000 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_that_of_the_folder_and_not_the_catalogs(rich, tmp_path):
    with pytest.raises(NotEnoughDisk, match=rf"^cannot write {tmp_path / 'out'}: "):
        export(rich, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("full")
def test_a_full_disk_takes_nothing_in_and_names_the_catalog(_made, tmp_path):
    new = Catalog(tmp_path / "new" / "catalog.duckdb")
    with pytest.raises(NotEnoughDisk, match=f"^catalog {new.path} "):
        take_in(new, _made)
    assert list(new.path.parent.iterdir()) == []


def test_a_place_for_no_catalog_is_named(_made, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CatalogDamaged, match="cannot be made: File exists"):
        take_in(Catalog(tmp_path / "file" / "catalog.duckdb"), _made)


def test_the_order_of_columns_does_not_matter(made, rich, tmp_path):
    rewritten(made, "recipe", "select canonical, created_at, digest from '{}'")
    new = Catalog(tmp_path / "new.duckdb")
    take_in(new, made)
    assert stored(new) == stored(rich)


@pytest.mark.parametrize("name", ["run=3", "a[1]", "a?b", "a*b", "it's"])
def test_a_folder_may_have_any_name(made, rich, tmp_path, name):
    other = shutil.copytree(made, tmp_path / "a1")
    rewritten(other, "recipe", "from '{}' limit 1")
    shutil.copytree(other, tmp_path / "axb")
    new = Catalog(tmp_path / "new.duckdb")
    take_in(new, made.rename(tmp_path / name))
    assert stored(new) == stored(rich)


def test_one_that_is_empty_takes_it(made, rich, catalog):
    take_in(catalog, made)
    assert stored(catalog) == stored(rich)


def test_an_error_in_the_middle_leaves_nothing(rich, made, tmp_path, monkeypatch):
    for number, error in ((errno.ENOSPC, NotEnoughDisk), (errno.EACCES, RunFailed)):

        def full(path, number=number):
            raise OSError(number, "no")

        monkeypatch.setattr(module, "sync", full)
        with pytest.raises(error):
            export(rich, tmp_path / "out" / "backup")
        assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(OutputExists):
        export(rich, made)
    new = Catalog(tmp_path / "new" / "catalog.duckdb")
    monkeypatch.setattr(module, "_moved", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        take_in(new, made)
    assert new.rows("select * from models") == []
    monkeypatch.undo()
    take_in(new, made)
    assert stored(new) == stored(rich)
