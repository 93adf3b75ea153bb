"""Removal: what others were made of stays known, what is removed leaves nothing behind."""

import errno
import os
from pathlib import Path

import pytest
from catalogs.keep import unpacked
from scanned import orphans, tiny, with_card

from registry.catalog import Catalog
from registry.doctor import examine
from registry.errors import StillNeeded, UnknownModel
from registry.removal import collect_garbage, remove
from registry.scan import scan


@pytest.fixture
def rich(tmp_path):
    """A catalog with a merge, statistics and scores; its files are nowhere."""
    return Catalog(unpacked(9, tmp_path / "rich.duckdb"))


@pytest.fixture
def few(tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    tiny(tmp_path / "models" / "a", 1.0)
    with_card(tiny(tmp_path / "models" / "b", 2.0), "base_model: a")
    scan(catalog, [str(tmp_path / "models")])
    return catalog


def test_a_parent_of_a_recorded_merge_is_refused_by_name(rich):
    before = rich.path.read_bytes()
    with pytest.raises(StillNeeded, match="arithmetic is a parent of merged"):
        remove(rich, [rich.find("arithmetic")])
    found = remove(rich, [rich.find("merged")], dry_run=True)
    assert found.models == (rich.find("merged"),)
    with rich.read() as reader:
        assert reader.rows("select count(*) as n from store.run")[0]["n"] == 1
    assert len(rich.path.read_bytes()) >= len(before) > 0


def test_with_force_it_stays_known_without_a_place(rich):
    model = rich.find("arithmetic")
    found = remove(rich, [model], force=True)
    assert found.models == ()
    assert found.unplaced == (model,)
    assert len(found.places) >= 1
    assert rich.rows("select 1 from store.edge where parent = ? and status = 'recorded'", [model])
    assert rich.rows("select 1 from store.tensor where model_id = ?", [model])
    assert orphans(rich) == []
    assert examine(rich).ok


def test_a_merge_goes_with_its_parents(rich):
    models = [rich.find(name) for name in ("merged", "arithmetic", "reverse")]
    found = remove(rich, models)
    assert found.models == tuple(models)
    assert orphans(rich) == []
    assert [f for f in examine(rich).findings if f.is_damage] == []
    with pytest.raises(UnknownModel):
        rich.find("reverse")
    assert collect_garbage(rich).recipes != ()
    assert rich.rows("select * from store.recipe") == []


def test_whoever_claims_to_descend_from_it_descends_from_its_name(few, tmp_path):
    model = few.find("a")
    assert remove(few, [model]).models == (model,)
    (edge,) = few.rows("select parent_name, status from edges")
    assert edge == {"parent_name": "a", "status": "declared"}
    assert (tmp_path / "models" / "a" / "model.safetensors").exists()
    assert scan(few, [str(tmp_path / "models")]).new == 1
    assert few.find("a") == model
    assert few.rows("select parent from store.edge") == [{"parent": model}]


def test_files_go_only_when_asked_for_and_as_they_were_scanned(few, tmp_path):
    folder = tmp_path / "models" / "b"
    (folder / "config.json").write_text('{"other": 1}')
    (folder / "mine.txt").write_text("not scanned")
    told = remove(few, [few.find("b")], files=True, dry_run=True)
    assert (folder / "model.safetensors").exists()
    found = remove(few, [few.find("b")], files=True)
    assert found == told
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "mine.txt"]
    assert found.kept_files == (str(folder / "config.json"),)
    assert remove(few, [few.find("a")], files=True).kept_files == ()
    assert not (tmp_path / "models" / "a").exists()
    assert (tmp_path / "models").is_dir()


def test_files_that_cannot_be_deleted_are_told_and_cost_no_others(few, tmp_path, monkeypatch):
    weights, unlink = tmp_path / "models" / "a" / "config.json", Path.unlink

    def refuse(path, **how):
        if path == weights:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        unlink(path, **how)

    monkeypatch.setattr(Path, "unlink", refuse)
    found = remove(few, [few.find("a")], files=True)
    assert found.refused_files == (str(weights),)
    assert found.files == (str(weights.with_name("model.safetensors")),)
    assert [path.name for path in weights.parent.iterdir()] == ["config.json"]


def test_links_go_and_what_they_point_to_stays(few, tmp_path):
    target = tmp_path / "weights" / "model.safetensors"
    target.parent.mkdir()
    (tmp_path / "models" / "a" / "model.safetensors").rename(target)
    (tmp_path / "models" / "a" / "model.safetensors").symlink_to(target)
    scan(few, [str(tmp_path / "models")])
    remove(
        few,
        [r["model_id"] for r in few.rows("select model_id from store.address where name = 'a'")],
        files=True,
    )
    assert target.exists()


def test_what_nothing_refers_to_is_collected(few, tmp_path):
    lone = Catalog(few.path).find("b")
    assert collect_garbage(few).models == ()
    for name in ("a", "b"):
        for file in (tmp_path / "models" / name).iterdir():
            file.unlink()
        (tmp_path / "models" / name).rmdir()
    scan(few, [str(tmp_path / "models")])
    told = collect_garbage(few, dry_run=True)
    assert lone in told.models
    assert len(few.rows("select * from store.model")) >= len(told.models)
    assert collect_garbage(few) == told
    assert collect_garbage(few).models == ()
    assert orphans(few) == []
