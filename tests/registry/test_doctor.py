"""The doctor: damage is named, and mended without losing what is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys

import duckdb
import pytest
from scanned import content, orphans, tiny

from registry.catalog import Catalog, now
from registry.database import WAIT_SECONDS, Database
from registry.doctor import examine
from registry.errors import CatalogLocked, CatalogMissing
from registry.relatives import relatives
from registry.resources import migrations
from registry.scan import scan
from registry.scratch import scratch

NEWEST = migrations()[-1][0]
BLOCK = 262_144
FIRST = 12_288


@pytest.fixture
def rich(_rich_catalog, tmp_path):
    file = tmp_path / "rich" / "catalog.duckdb"
    file.parent.mkdir()
    file.write_bytes(_rich_catalog)
    return Catalog(file, wait_seconds=5.0)


@pytest.fixture
def few(tmp_path):
    """A catalog of three small models that are there."""
    catalog = Catalog(tmp_path / "catalog" / "catalog.duckdb")
    for i, name in enumerate(("a", "b", "c")):
        tiny(tmp_path / "models" / name, float(i + 1))
    scan(catalog, [str(tmp_path / "models")])
    return catalog


def damage(catalog, *statements):
    """Do by hand what nobody should."""
    with duckdb.connect(str(catalog.path)) as connection:
        for statement in statements:
            connection.execute(statement)


def kinds(diagnosis):
    return {(f.kind, f.where): f.n for f in diagnosis.findings if f.is_damage}


def remaining(diagnosis):
    return {(f.kind, f.where) for f in diagnosis.findings if f.remains}


def rows_of(file, table):
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(f"select * from store.{table} order by all").fetchall()


def test_a_whole_catalog_is_found_whole_and_left_alone(few, rich):
    for catalog in (few, rich):
        before = catalog.path.read_bytes()
        found = examine(catalog)
        assert found.ok
        assert kinds(found) == {}
        assert found.version == NEWEST
        assert found.kept is None
        repaired = examine(catalog, repair=True)
        assert repaired.ok
        assert repaired.kept is None
        assert catalog.path.read_bytes() == before
        assert [p.name for p in catalog.path.parent.iterdir()] == ["catalog.duckdb"]


def test_there_must_be_one(tmp_path):
    with pytest.raises(CatalogMissing):
        examine(Catalog(tmp_path / "none.duckdb"))


def test_one_that_is_written_is_not_looked_at(few):
    program = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(few.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(CatalogLocked, match=str(holder.pid)):
            examine(Catalog(few.path, wait_seconds=0.1))
        holder.stdin.close()
    assert WAIT_SECONDS > 1


def test_rows_that_were_removed_by_hand_are_told_table_by_table(rich):
    merged = rich.find("merged")
    before = content(rich)
    damage(
        rich,
        f"delete from store.model where id = '{merged}'",
        f"delete from store.tensor where model_id = '{merged}'",
        "delete from store.recipe",
    )
    assert orphans(rich)
    found = examine(rich)
    assert not found.ok
    assert {
        ("orphans", "address.model_id"),
        ("orphans", "edge.child"),
        ("orphans", "run.recipe"),
    } <= kinds(found).keys()
    told = {(f.kind, f.where): f for f in found.findings}
    assert merged[:12] in told["orphans", "address.model_id"].detail
    assert "reg scan" in told["orphans", "address.model_id"].repair
    assert content(rich).keys() == before.keys()

    done = examine(rich, repair=True)
    assert done.ok
    assert done.kept.exists()
    assert done.kept.name.startswith("catalog.duckdb.before-repair-")
    assert {row[0] for row in rows_of(done.kept, "model")} < {row[0] for row in rows_of(rich.path, "model")} | {merged}  # fmt: skip
    assert orphans(rich) == []
    assert kinds(examine(rich)) == {}
    lost = {row for table in ("model", "tensor") for row in before[table]} - {
        row for table in ("model", "tensor") for row in content(rich)[table]
    }
    assert all(merged in row for row in lost)


def test_a_model_that_lost_only_its_row_gets_it_again(rich):
    model = rich.find("arithmetic")
    before = content(rich)
    damage(rich, f"delete from store.model where id = '{model}'")
    assert kinds(examine(rich))["lost_models", "model"] == 1
    assert examine(rich, repair=True).ok
    assert content(rich) == before


def test_tensors_that_do_not_give_the_digest_are_read_anew(few, tmp_path):
    before = content(few)
    model = few.find("b")
    damage(
        few,
        f"update store.tensor set digest = repeat('0', 64) where model_id = '{model}' and name = 'norm'",
    )
    found = examine(few, repair=True)
    assert remaining(found) == {("digest", "tensor")}
    (told,) = (f for f in found.findings if f.remains)
    assert f"reg scan {tmp_path / 'models' / 'b'}" in told.repair
    assert scan(few, [str(tmp_path / "models" / "b")]).updated == 1
    assert examine(few).ok
    assert content(few)["tensor"] == before["tensor"]


def test_tensors_that_are_gone_with_their_files_leave_a_name(few, tmp_path):
    model = few.find("b")
    damage(few, f"delete from store.tensor where model_id = '{model}'")
    shutil.rmtree(tmp_path / "models" / "b")
    found = examine(few, repair=True)
    assert {("vanished", "address"), ("digest", "model")} <= kinds(found).keys()
    assert any("the tensors of these models" in f.lost for f in found.findings)
    assert found.ok
    (row,) = few.rows("select status from store.model where id = ?", [model])
    assert row["status"] == "latent"
    tiny(tmp_path / "models" / "again", 2.0)
    scan(few, [str(tmp_path / "models")])
    (row,) = few.rows("select status, n_tensors from store.model where id = ?", [model])
    assert row == {"status": "full", "n_tensors": 2}


def test_files_that_vanished_are_forgotten_as_a_scan_forgets_them(few, tmp_path):
    other = Catalog(tmp_path / "other.duckdb")
    scan(other, [str(tmp_path / "models")])
    shutil.rmtree(tmp_path / "models" / "a")
    (tmp_path / "models" / "b" / "config.json").write_text("{}")
    found = examine(few)
    assert kinds(found) == {("vanished", "address"): 1, ("changed", "file"): 1}
    done = examine(few, repair=True)
    assert remaining(done) == {("changed", "file")}
    scan(few, [str(tmp_path / "models")])
    scan(other, [str(tmp_path / "models")])
    assert content(few) == content(other)
    assert examine(few).ok


def test_places_on_a_disk_that_is_not_there_are_kept(few, tmp_path):
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    found = examine(few, repair=True)
    assert found.ok
    assert [f.kind for f in found.findings] == ["out_of_reach"]
    (tmp_path / "elsewhere").rename(tmp_path / "models")
    assert examine(few).findings == ()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("update store.edge set status = 'sure' where status = 'recorded'", ("words", "edge.status")),
        ("update store.model set status = 'fulll'", ("words", "model.status")),
        ("update store.run set status = 'DONE'", ("words", "run.status")),
        ("update store.recipe set canonical = canonical || ' '", ("recipe", "recipe")),
        ("update store.recipe set canonical = '{'", ("documents", "recipe.canonical")),
        ("update store.address set config = 'x'", ("documents", "address.config")),
        ("update store.model set n_params = 7 where status = 'full'", ("counts", "model")),
        ("update store.component set found = replace(found, 'finetune', '')", None),
        ("update store.component set found = '[]'", ("derived", "component")),
        ("update store.clans set found = replace(found, left(found, 80), '')", ("documents", "clans.found")),
        ("update store.sketch set scalars = 'abc'::blob", ("derived", "sketch")),
        ("delete from store.delta where tensor like '%norm%'", ("partial", "pair")),
        ("delete from store.pair", ("orphans", "delta")),
        ("update store.histogram set counts = counts[2:] where len(bins) > 3", ("partial", "histogram")),
        ("update store.edge set run_id = 'x' where status = 'recorded'", ("orphans", "edge.run_id")),
        ("update store.claim set resolved_id = 'nobody' where resolved_id is not null", ("orphans", "claim.resolved_id")),
        ("delete from store.address where name = 'base'", ("orphans", "file.uri")),
        ("insert into store.edge by name select parent as child, parent, relation, role, status, confidence, created_at "
         "from store.edge where status = 'declared' limit 1", ("self", "edge")),
        ("drop view models", ("missing_view", "view")),
        ("create or replace view models as select 1 as id", ("changed_view", "view")),
        ("create or replace macro store.each(x) as x", ("changed_macro", "macro")),
        ("drop index store.edge_child", ("missing_index", "index")),
        ("drop table store.clans", ("missing_table", "table")),
        ("alter table store.claim drop column raw", ("missing_column", "column")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_damage_is_named_and_mended(rich, statement, kind):
    if "claim drop" in statement:
        damage(rich, "drop index store.claim_resolved", statement)
    else:
        damage(rich, statement)
    found = examine(rich)
    if kind is None:
        assert found.ok
        return
    assert kind in kinds(found)
    assert all(f.detail and f.repair for f in found.findings)
    done = examine(rich, repair=True)
    assert {f.kind for f in done.findings if f.remains} <= {"digest"}, done.findings
    assert done.kept.exists()
    assert kinds(examine(rich)).keys() <= {("digest", "tensor")}
    assert rich.path.parent.joinpath(done.kept.name).stat().st_size > BLOCK
    assert Catalog(rich.path).rows("select name from models order by 1")


def test_an_index_that_lacks_rows_is_named_and_made_anew(rich):
    """As it comes about: a process is killed, and DuckDB's own tools open and close the file before `reg` does."""
    statement = (
        "insert into store.claim select * replace (id || 'x' as id, (select max(id) from store.model) as resolved_id) "
        "from store.claim limit 3"
    )
    killed = "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute(sys.argv[2]); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed, rich.path, statement], check=False)
    duckdb.connect(str(rich.path)).close()
    found = examine(rich)
    assert ("broken_index", "claim.claim_resolved") in kinds(found)
    done = examine(rich, repair=True)
    assert not [f for f in done.findings if f.remains and f.kind == "broken_index"]
    assert ("broken_index", "claim.claim_resolved") not in kinds(examine(rich))


def test_two_rows_of_one_key_become_one(rich):
    (before,) = rich.rows("select count(*) as n from store.score")
    damage(
        rich,
        "create table store.other as from store.score union all from store.score",
        "drop table store.score",
        "alter table store.other rename to score",
    )
    found = examine(rich)
    assert ("missing_key", "key") in kinds(found)
    assert any(
        f"{before['n']} rows of score whose key another has" in f.lost for f in found.findings
    )
    assert examine(rich, repair=True).ok
    assert Catalog(rich.path).rows("select count(*) as n from store.score") == [before]


def test_a_tensor_that_stands_there_twice_is_counted_once(rich):
    before = content(rich)
    damage(rich, "insert into store.tensor from store.tensor where name like '%norm%'")
    found = kinds(examine(rich))
    assert found["twice", "tensor"] == sum("norm" in row for row in before["tensor"])
    assert examine(rich, repair=True).ok
    assert content(rich) == before


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("update store.model set number = 1", "edge.child_number"),
        ("update store.edge set parent_number = child_number", "edge.child_number"),
        ("update store.address set model_number = 1", "address.model_number"),
    ],
)
def test_numbers_that_are_not_those_of_the_models_are_settled_anew(rich, sql, kind):
    walked = {m["id"]: relatives(rich, m["id"], "ancestors").nearest for m in rich.rows("from store.model")}  # fmt: skip
    damage(rich, sql)
    assert ("derived", kind) in kinds(examine(rich))
    assert examine(rich, repair=True).ok
    assert examine(rich).ok
    assert walked == {model: relatives(rich, model, "ancestors").nearest for model in walked}


def test_a_run_whose_process_is_gone_is_ended(rich):
    (run,) = rich.rows("select * from store.run")
    with rich.write() as transaction:
        for i, (process, age) in enumerate(((os.getpid(), 0), (os.getpid(), 900_000), (2**30, 0))):
            started = now().timestamp() - age
            transaction.execute(
                "insert into store.run by name select 'run-' || ? as id, recipe, 'STARTED' as status, output, "
                "engine_version, ? as process, to_timestamp(?) as started_at from store.run where id = ?",
                [i, process, started, run["id"]],
            )
    assert kinds(examine(rich)) == {("dead_runs", "run"): 2}
    assert examine(rich, repair=True).ok
    states = {
        r["id"]: r["status"]
        for r in rich.rows("select id, status from store.run where id like 'run-%'")
    }
    assert states == {"run-0": "STARTED", "run-1": "ABORTED", "run-2": "ABORTED"}


def test_circles_are_told_and_left(few):
    ids = [few.find(name) for name in ("a", "b", "c")]
    with few.write() as transaction:
        for child, parent in zip(ids, [ids[1], ids[2], ids[0]], strict=True):
            transaction.insert("edge", {
                "child": [child], "parent": [parent], "relation": ["merge"], "role": ["model"], "status": ["recorded"],
                "confidence": [1.0], "created_at": [now()],
            })  # fmt: skip
    found = examine(few, repair=True)
    assert found.ok
    assert [(f.kind, f.n) for f in found.findings] == [("circle", 3)]


def test_leftovers_of_stopped_work_are_removed_and_those_in_use_are_not(few):
    folder = few.path.parent
    with scratch(few.path) as live:
        (folder / ".import-dead").mkdir()
        (folder / ".import-dead" / "rows.duckdb").write_bytes(b"x")
        with Database(live / "rows" / "rows.duckdb").write() as transaction:
            transaction.execute(
                "create table row (n integer)"
            )  # and it is closed, between two lists
        assert kinds(examine(few)) == {("leftovers", str(folder)): 1}
        assert examine(few, repair=True).ok
        assert sorted(p.name for p in folder.iterdir()) == [live.name, "catalog.duckdb"]
        assert (live / "rows" / "rows.duckdb").is_file()


def test_merges_that_can_go_on_are_left_and_others_are_not(rich, tmp_path):
    with rich.write() as transaction:
        transaction.execute("update store.run set output = ?", [str(tmp_path / "out")])
    for name in (".out.12345678.partial", ".out.aaaaaaaa.partial", ".other.12345678.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.12345678.partial" / "journal.jsonl").write_text("{}\n")
    found = examine(rich, repair=True)
    assert {f.kind: f.is_damage for f in found.findings if f.kind in ("resumable", "unfinished")} == {
        "resumable": False, "unfinished": True,
    }  # fmt: skip
    assert found.ok
    assert {p.name for p in tmp_path.glob(".*")} == {
        ".out.12345678.partial",
        ".other.12345678.partial",
    }


def test_what_waits_in_the_log_is_not_lost(few):
    program = (
        "import duckdb, os, signal, sys\n"
        "c = duckdb.connect(sys.argv[1])\n"
        "c.execute(\"update store.model set dtype = 'F64'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(few.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    found = examine(few)
    assert found.ok
    assert [f.kind for f in found.findings] == ["wal"]
    assert {r["dtype"] for r in few.rows("select dtype from store.model")} == {"F64"}


def test_the_report_is_of_plain_values(rich):
    damage(rich, "delete from store.recipe")
    found = examine(rich)
    assert json.dumps([[f.kind, f.where, f.n, f.detail, f.lost, f.repair] for f in found.findings])
