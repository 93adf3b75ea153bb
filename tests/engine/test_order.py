"""After a power loss a model is whole or absent, and no row tells of one that is absent."""

import re
from pathlib import Path

import pytest
from ordered import ordered

from engine.extract import extract
from engine.merge import merge
from engine.options import Options
from registry.parquet import write_parquet
from registry.scan import scan

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shard_bytes", [4_000, 5_000_000_000])
def test_a_merge_is_on_the_disk_before_its_name_and_its_name_before_its_row(
    shelf, recipe_of, tmp_path, monkeypatch, shard_bytes
):
    recipe = recipe_of("ties", "chat", "math")
    with ordered(monkeypatch) as order:
        merge(shelf, recipe, tmp_path / "out", options=Options(shard_bytes=shard_bytes))
    assert order.wrong == []
    i = order.steps.index(("named", "out"))
    assert order.steps[i + 1 : i + 3] == [("synced", tmp_path.name), ("row", "")]
    assert ("synced", "README.md") in order.steps[:i]
    assert ("synced", "homolog.json") in order.steps[:i]


def test_so_is_an_adapter(shelf, tmp_path, monkeypatch):
    with ordered(monkeypatch) as order:
        extract(shelf, shelf.find("chat"), shelf.find("base"), tmp_path / "lora", rank=1)
    assert order.wrong == []
    assert ("named", "lora") in order.steps


def test_so_are_a_new_catalog_and_a_file_of_rows(catalog, family, tmp_path, monkeypatch):
    catalog.path.unlink()
    with ordered(monkeypatch) as order:
        scan(catalog, [str(family.base)])
        write_parquet(tmp_path / "rows.parquet", [("a", "INTEGER")], [(1,)])
        scan(catalog, [str(family.chat)])
    assert order.wrong == []
    names = [name for kind, name in order.steps if kind == "named"]
    assert names == [catalog.path.name, "rows.parquet"]


def test_a_missing_sync_is_seen(tmp_path, monkeypatch):
    (tmp_path / "new").write_text("x")
    with ordered(monkeypatch) as order:
        (tmp_path / "new").replace(tmp_path / "old")
        order.row()
    assert len(order.wrong) == 2


def test_names_are_given_in_few_places():
    gives = re.compile(
        r"\bos\.(?:rename|replace|link|symlink)\(|\.rename\(|\.replace\((?=[^,()=]*\))|shutil\.move\("
    )
    found = {
        str(file.relative_to(ROOT)): gives.findall(file.read_text(encoding="utf-8"))
        for room in ("registry", "engine", "cli")
        for file in sorted((ROOT / room).rglob("*.py"))
    }
    assert {file for file, calls in found.items() if calls} == {
        "engine/output.py",
        "registry/salvage.py",  # second names, and with the new one in its place all are synced
        "registry/whole_file.py",
    }
