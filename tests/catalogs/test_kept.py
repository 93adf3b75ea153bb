"""Catalogs of every version that ever was: today's code opens them, keeps every row, and goes on with them."""

import json
import lzma
from pathlib import Path

import duckdb
import pytest
from catalogs.keep import KEPT, facts, keep, make
from scanned import tiny

from cli.main import run
from registry.catalog import Catalog
from registry.doctor import examine
from registry.errors import CatalogTooNew
from registry.resources import migrations
from registry.scan import scan

NEWEST = migrations()[-1][0]
FILES = sorted(KEPT.glob("*.duckdb.xz"))
REGROUPED = {"histogram"}
"""Tables whose rows a migration gathered: their contents are compared by their bins."""

BY_BIN = "select child, base, tensor, bin, n, sum_abs, sum_sq from {}.store.histogram order by all"
BY_LIST = (
    "select child, base, tensor, unnest(bins), unnest(counts), unnest(sums_abs), unnest(sums_sq) "
    "from {}.store.histogram order by all"
)


@pytest.fixture(params=FILES, ids=lambda file: file.name[:4])
def kept(request, tmp_path):
    """A kept catalog, unpacked, what is written beside it, and one more copy that nobody touches."""
    data = lzma.decompress(request.param.read_bytes())
    for name in ("catalog.duckdb", "untouched.duckdb"):
        (tmp_path / name).write_bytes(data)
    told = json.loads(
        request.param.with_name(request.param.name[:4] + ".json").read_text(encoding="utf-8")
    )
    return Catalog(tmp_path / "catalog.duckdb"), told, tmp_path / "untouched.duckdb"


def test_every_version_before_todays_has_its_file():
    """Whoever writes a migration keeps a catalog of the version before: `python tests/catalogs/keep.py`, then."""
    there = {int(file.name[:4]) for file in FILES}
    lacking = [number for number, _ in migrations()[:-1] if number not in there]
    assert not lacking, "keep one before its code is gone: python tests/catalogs/keep.py --checkout"
    assert there <= {number for number, _ in migrations()}


def test_a_kept_file_is_the_one_that_was_written_down(kept):
    _, told, untouched = kept
    found = json.loads(json.dumps(facts(untouched)))
    assert found | {"duckdb": told["duckdb"]} == told
    assert told["counts"]["model"] > 4
    assert told["counts"]["run"] == 1
    assert told["version"] < 2 or told["counts"]["delta"] == 76
    assert told["version"] < 5 or told["counts"]["sketch"] > 2
    assert told["version"] < 7 or "listed" in {status for _, _, status, _ in told["models"]}


def test_it_is_migrated_and_every_value_of_every_row_is_kept(kept):
    catalog, told, untouched = kept
    with catalog.write():
        pass
    with duckdb.connect() as connection:
        for name, file in (("old", untouched), ("new", catalog.path)):
            connection.execute(f"attach '{file}' as {name} (read_only)")

        def rows(sql):
            return connection.execute(sql).fetchall()

        for table, n_rows in told["counts"].items():
            if table in REGROUPED:
                before = BY_BIN if told["version"] < 4 else BY_LIST
                assert (
                    rows(before.format("old")) == rows(BY_LIST.format("new")) != [] or n_rows == 0
                )
                continue
            names = [name for (name,) in rows(
                f"select column_name from duckdb_columns() where database_name = 'old' and table_name = '{table}' "
                "and schema_name = 'store' order by column_index"
            )]  # fmt: skip
            listed = ", ".join(f'"{name}"' for name in names)
            where = " where key <> 'views'" if table == "setting" else ""
            where = f" where version <= {told['version']}" if table == "migration" else where
            old, new = (
                rows(f"select {listed} from {side}.store.{table}{where} order by all")
                for side in ("old", "new")
            )
            assert old == new, table
            assert len(old) == n_rows - (table == "setting")
        assert rows("select max(version) from new.store.migration") == [(NEWEST,)]


def test_it_answers_and_the_doctor_finds_it_whole(kept, tmp_path, monkeypatch, capsys):
    catalog, told, _ = kept
    monkeypatch.chdir(tmp_path)
    at = ("--catalog", str(catalog.path))
    for words in (("show", "merged"), ("lineage", "merged"), ("sql", "select * from conflicts"), ("ls", "--json")):  # fmt: skip
        capsys.readouterr()
        assert run([*words, *at]) == 0, words
    listed = {row["id"]: row["names"] for row in json.loads(capsys.readouterr().out)}
    read = [row for row in told["models"] if row[2] != "listed"]  # `reg ls` shows no others
    assert all(name in listed[id_] for name, id_, _, _ in read)
    found = examine(catalog)
    assert {f.kind for f in found.findings if f.is_damage} <= {
        "vanished",
        "changed",
    }  # the files are gone
    assert found.version == NEWEST


def test_scanning_goes_on_with_it(kept, tmp_path):
    catalog, told, _ = kept
    known = {id_: name for name, id_, _, _ in told["models"]}
    place = tmp_path / "models"
    for value, name in ((1.0, "one"), (2.0, "two")):
        tiny(place / name, value)
    zoo = KEPT.parent / "zoo"
    (place / "again").symlink_to(zoo / "arithmetic")
    report = scan(catalog, [str(place), str(zoo / "arithmetic")])
    assert report.new == 3
    assert [m.id for m in report.models if m.id in known] == [m.id for m in report.models][-1:]
    assert scan(catalog, [str(place), str(zoo / "arithmetic")]).unchanged == 3
    (row,) = catalog.rows("select count(*) as n from store.model")
    assert row["n"] == told["counts"]["model"] + 2


@pytest.mark.parametrize(
    "words",
    [("ls",), ("scan", "."), ("doctor", "--repair"), ("sql", "select 1"), ("import", "x.jsonl")],
    ids=lambda words: words[0],
)
def test_a_newer_one_is_refused_and_not_touched(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"id": "a/b"}\n')
    file = tmp_path / "newer.duckdb"
    file.write_bytes(lzma.decompress(FILES[-1].read_bytes()))
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            f"insert into store.migration values ({NEWEST + 3}, '{NEWEST + 3:04d}_later', now())"
        )
    before, names = file.read_bytes(), sorted(path.name for path in tmp_path.iterdir())
    assert run([*words, "--catalog", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"schema version {NEWEST + 3}" in said
    assert f"knows up to {NEWEST}" in said
    assert "pip install --upgrade homolog" in said
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(CatalogTooNew):
        Catalog(file).find("x")


def test_the_one_of_today_can_be_kept_for_the_next_release(tmp_path):
    """A short story of the script that makes them: its commands are those of today."""
    file = make(Path(__file__).parents[2], tmp_path / "place", ["scan models", "import hub.jsonl"])
    made = keep(file, tmp_path / "kept")
    assert made.name == f"{NEWEST:04d}.duckdb.xz"
    told = json.loads((tmp_path / "kept" / f"{NEWEST:04d}.json").read_text(encoding="utf-8"))
    assert told["version"] == NEWEST
    assert {"base", "arithmetic", "reverse"} <= {name for name, _, _, _ in told["models"]}
    assert told == json.loads(json.dumps(facts(file)))
